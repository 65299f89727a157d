import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.contracts import DataSpec
from gentrain.data.batches import Batches, in_order
from gentrain.metrics.classifier import (
    RECIPE,
    Classifier,
    Recipe,
    classes_of,
    entropy,
    examined,
    judge_from_bytes,
    predict,
    shifted,
    steps_of,
    train_classifier,
)

CPU = torch.device("cpu")


def trained(data, recipe, size):
    torch.manual_seed(0)
    batches = Batches(data, data.train, batch_size=size, seed=0, device=CPU)
    steps = range(steps_of(len(data.train), recipe))
    net = train_classifier(batches.at, data.spec, recipe, steps, CPU)
    return examined(net, in_order(data, data.test, batch_size=100, device=CPU, seed=0), len(data.train))


@pytest.fixture(scope="module")
def digits():
    return build_source(compose_train([]).dataset).load()


@pytest.fixture(scope="module")
def judge(digits):
    return trained(digits, Recipe(steps=120, epochs=1), 128)


# Figures


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([7], 0), ([0, 9, 0], 0), ([5] * 10, math.log(10)), ([1, 1], math.log(2)), ([3, 1], 0.5623351446188083)],
)
def test_the_entropy_of_a_histogram(counts, expected):
    assert entropy(counts)[0] == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any))
def test_entropy_is_between_nothing_and_all_labels_and_knows_no_order(counts):
    h, stderr = entropy(counts)
    assert -1e-12 <= h <= math.log(len(counts)) + 1e-12
    assert stderr >= 0
    assert entropy(sorted(counts))[0] == pytest.approx(h, abs=1e-12)
    assert entropy([3 * n for n in counts])[0] == pytest.approx(h, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "factor"), [([0.1] * 10, math.sqrt(2)), ([0.7, 0.1, 0.1, 0.05, 0.05], 1), ([0.2, 0.8], 1)]
)
def test_the_standard_error_is_what_repetition_finds(p, factor):
    """Where all are equally frequent it is too large by the square root of two, never too small."""
    draw = np.random.default_rng(0)
    found = np.array([entropy(draw.multinomial(2000, p).tolist()) for _ in range(3000)])
    assert found[:, 1].mean() == pytest.approx(factor * found[:, 0].std(), rel=0.06)


def test_one_label_alone_has_no_entropy_and_no_error():
    found = classes_of(torch.full((50,), 3), torch.linspace(0.5, 1, 50), 10)
    assert (found.entropy, found.entropy_stderr) == (0, 0)
    assert found.counts == (0, 0, 0, 50, 0, 0, 0, 0, 0, 0)
    values = np.linspace(0.5, 1, 50)
    assert found.confidence == pytest.approx(values.mean(), abs=1e-7)
    assert found.confidence_stderr == pytest.approx(values.std(ddof=1) / math.sqrt(50), abs=1e-7)
    assert math.isnan(classes_of(torch.tensor([1]), torch.tensor([0.5]), 2).confidence_stderr)
    with pytest.raises(ValueError, match="no samples"):
        classes_of(torch.empty(0, dtype=torch.int64), torch.empty(0), 2)


def test_predictions_are_the_largest_probability():
    logits = torch.tensor([[0.0, math.log(3), -math.inf], [math.log(8), 0.0, 0.0]])

    class Fixed(nn.Module):
        def forward(self, x):
            return logits[x[:, 0, 0, 0].long()]

    x = torch.tensor([1, 0, 1], dtype=torch.uint8).view(3, 1, 1, 1)
    labels, confidences = predict(Fixed(), [x[:2], x[2:]])
    assert labels.tolist() == [0, 1, 0]
    assert confidences.tolist() == pytest.approx([0.8, 0.75, 0.8])


# The classifier


def test_it_learns_the_digits(judge, digits):
    assert judge.accuracy >= 0.95
    assert (judge.train_images, judge.test_images) == (1350, 297)
    x = torch.from_numpy(np.array(digits.test.images))
    labels, confidences = predict(judge.net, x.split(64))
    right = (labels.numpy() == digits.test.labels).mean()
    assert right == pytest.approx(judge.accuracy)
    assert float(confidences.mean()) == pytest.approx(judge.confidence)
    found = classes_of(labels, confidences, 10)
    assert found.entropy > 2.28, "real digits are of every label"
    assert found.confidence > 0.9
    sevens = x[digits.test.labels == 7]
    assert classes_of(*predict(judge.net, [sevens]), 10).entropy < 0.5, "one label, collapsed"
    noise = torch.randint(0, 17, (300, 1, 8, 8), dtype=torch.uint8)
    assert classes_of(*predict(judge.net, [noise]), 10).confidence < found.confidence - 0.05


def test_it_predicts_each_image_by_itself(judge, digits):
    x = torch.from_numpy(np.array(digits.test.images[:20]))
    whole, alone = judge.net(x), torch.cat([judge.net(x[i : i + 1]) for i in range(20)])
    assert torch.allclose(whole, alone, atol=1e-4)


def test_it_survives_a_file(judge, digits):
    content = judge.to_bytes()
    again = judge_from_bytes(content, digits.spec, Recipe(), CPU)
    assert again.to_bytes() == content
    for name in ("accuracy", "confidence", "train_images", "test_images"):
        assert getattr(again, name) == getattr(judge, name)
    x = torch.from_numpy(np.array(digits.test.images))
    assert torch.equal(again.net(x), judge.net(x))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    levels=st.integers(2, 256),
    classes=st.integers(1, 12),
)
def test_images_of_any_shape(shape, levels, classes):
    net = Classifier(DataSpec(shape=shape, levels=levels, classes=classes), RECIPE).eval()
    x = torch.randint(0, levels, (3, *shape), dtype=torch.uint8)
    assert net(x).shape == (3, classes)
    assert torch.isfinite(net.double()(x)).all()


def test_data_without_labels():
    with pytest.raises(ValueError, match="labels"):
        Classifier(DataSpec(shape=(1, 8, 8)), RECIPE)


def test_how_long_it_is_trained():
    recipe = Recipe(batch_size=100, epochs=3, steps=50)
    assert [steps_of(count, recipe) for count in (1, 1000, 5000, 5001)] == [50, 50, 150, 151]


def test_no_test_images():
    net = Classifier(DataSpec(shape=(1, 8, 8), classes=3), RECIPE).eval()
    with pytest.raises(ValueError, match="no images"):
        examined(net, [], 1)


# Shifts


def test_shifts_move_whole_images_and_repeat_the_edge():
    torch.manual_seed(0)
    x = torch.randint(0, 256, (200, 2, 7, 5), dtype=torch.uint8)
    moved = shifted(x, 1 / 3)
    assert moved.dtype == torch.uint8
    seen = set()
    for before, after in zip(x, moved, strict=True):
        ways = []
        for dy in range(-2, 3):
            for dx in range(-1, 2):
                rows, columns = (torch.arange(7) + dy).clamp(0, 6), (torch.arange(5) + dx).clamp(0, 4)
                if torch.equal(before[:, rows][:, :, columns], after):
                    ways.append((dy, dx))
        assert len(ways) == 1
        seen |= set(ways)
    assert len(seen) == 15, "every move happens"


def test_small_images_stay():
    x = torch.randint(0, 17, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(shifted(x, RECIPE.shift), x)


@pytest.mark.slow
@pytest.mark.skipif("GENTRAIN_DATA" not in os.environ, reason="needs MNIST")
def test_mnist_is_classified_as_well_as_asked():
    data = build_source(compose_train(["dataset=mnist"]).dataset).load()
    judge = trained(data, RECIPE, RECIPE.batch_size)
    assert judge.accuracy >= 0.99
    assert judge.confidence >= 0.98
