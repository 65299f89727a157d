import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from gentrain.contracts import Batch, Conditional, DataSpec, HasLikelihood
from gentrain.errors import Fault
from gentrain.metrics.likelihood import evaluate_likelihood

SPEC = DataSpec(shape=(1, 2, 3), levels=256)


class Table(HasLikelihood):
    """-log p(x) is looked up by an image's first pixel."""

    def __init__(self, nats, spec=None):
        super().__init__(spec or SPEC)
        self.nats = nn.Parameter(torch.as_tensor(nats))
        self.calls = []

    def log_likelihood(self, x, samples=None, *, condition=None):
        self.calls.append((len(x), samples))
        return -self.nats[x[:, 0, 0, 0].long()], "exact"


def batches(sizes):
    x = torch.zeros(sum(sizes), *SPEC.shape, dtype=torch.uint8)
    x[:, 0, 0, 0] = torch.arange(len(x))
    return [Batch(part) for part in x.split(sizes)]


@pytest.mark.parametrize("sizes", [[10, 10, 3], [23], [1] * 23, [22, 1]])
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_means_and_standard_errors_are_numpys(sizes, offset):
    nats = np.random.default_rng(0).normal(offset, 3.0, 23)
    found = evaluate_likelihood(Table(nats), batches(sizes), SPEC, samples=None)
    stderr = nats.std(ddof=1) / math.sqrt(23)
    assert (found.kind, found.images) == ("exact", 23)
    assert found.nats == pytest.approx(nats.mean(), rel=1e-12)
    assert found.nats_stderr == pytest.approx(stderr, rel=1e-7)
    bits = 6 * math.log(2)
    assert found.bits_per_dim == pytest.approx(nats.mean() / bits, rel=1e-12)
    assert found.bits_per_dim_stderr == pytest.approx(stderr / bits, rel=1e-7)


def test_a_uniform_model_has_eight_bits_per_dimension():
    found = evaluate_likelihood(Table(torch.full((9,), 6 * math.log(256))), batches([4, 5]), SPEC, None)
    assert found.bits_per_dim == pytest.approx(8, rel=1e-6)
    assert found.bits_per_dim_stderr == pytest.approx(0, abs=1e-6)


def test_ranks_together_find_what_one_finds():
    nats = np.random.default_rng(1).normal(1e5, 2.0, 20)
    whole = evaluate_likelihood(Table(nats), batches([20]), SPEC, None)
    shares = [*batches([13, 7]), Batch(torch.zeros(0, *SPEC.shape, dtype=torch.uint8))]
    shares[1].x[:, 0, 0, 0] = torch.arange(13, 20)
    ranks, barrier, slots, calls = 3, threading.Barrier(3, timeout=30), [None] * 3, [0] * 3

    def evaluate(rank):
        def reduce(t):
            calls[rank] += 1
            slots[rank] = t.clone()
            barrier.wait()
            total = sum(slots)
            barrier.wait()
            return total

        return evaluate_likelihood(Table(nats), [shares[rank]], SPEC, None, reduce=reduce)

    with ThreadPoolExecutor(ranks) as pool:
        results = list(pool.map(evaluate, range(ranks)))
    assert calls == [2, 2, 2]
    assert [r.kind for r in results] == ["exact", "exact", ""]
    for r in results:
        assert r.images == whole.images == 20
        assert r.nats == pytest.approx(whole.nats, rel=1e-12)
        assert r.nats_stderr == pytest.approx(whole.nats_stderr, rel=1e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted_and_never_left_out(bad):
    nats = torch.ones(10)
    nats[3] = nats[7] = bad
    with pytest.raises(Fault, match="2 of 10 images is not finite"):
        evaluate_likelihood(Table(nats), batches([4, 6]), SPEC, None)


def test_one_image_has_no_standard_error_and_none_has_no_mean():
    found = evaluate_likelihood(Table([2.0]), batches([1]), SPEC, None)
    assert found.nats == 2
    assert math.isnan(found.nats_stderr)
    with pytest.raises(ValueError, match="no images"):
        evaluate_likelihood(Table([2.0]), [], SPEC, None)


def test_samples_and_progress_are_passed_on():
    model = Table(torch.ones(5))
    done = []
    evaluate_likelihood(model, batches([3, 2]), SPEC, samples=7, progress=done.append)
    assert model.calls == [(3, 7), (2, 7)]
    assert done == [3, 2]


@pytest.mark.parametrize("name", ["label", "attributes"])
def test_what_the_model_is_given_of_each_image_is_passed_on(name):
    class Given(Table, Conditional):
        takes = ("label", "attributes")

        def log_likelihood(self, x, samples=None, *, condition=None):
            self.given_to = condition
            return super().log_likelihood(x, samples)

    spec = dataclasses.replace(SPEC, **({"classes": 4} if name == "label" else {"attributes": tuple("abcd")}))
    model = Given(torch.ones(4), spec)
    (batch,) = batches([4])
    both = batch._replace(attributes=torch.eye(4) > 0, label=torch.arange(4))
    evaluate_likelihood(model, [both], spec, samples=None)
    assert torch.equal(model.given_to, getattr(both, name))
    with pytest.raises(ValueError, match=f"needs the {name} of every image"):
        evaluate_likelihood(model, [batch], spec, samples=None)
