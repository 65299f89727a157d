"""What networks see in translations, with networks that see what a pixel says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gentrain.commands.measures.translated import Watching
from gentrain.contracts import Batch, DataSpec
from gentrain.data.source import Data, Split
from gentrain.metrics.classifier import Classifier, Judge, Recipe
from gentrain.metrics.extractors import ClassifierFeatures, Extractor

COUNT = 60


class SeesThePixel(nn.Module):
    """The label is the level of the first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> logits [B, 3]."""
        return 9.0 * nn.functional.one_hot(x[:, 0, 0, 0].long(), 3)


class Flat(nn.Module):
    """Pixels as features."""

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> [B, C * H * W]."""
        return x.flatten(1).float()


def images(labels: Tensor, light: int) -> Tensor:
    """Of each label one that says so, and other pixels around `light`."""
    noise = torch.Generator().manual_seed(light)
    x = torch.randint(light, light + 9, (len(labels), 1, 3, 3), generator=noise)
    x[:, 0, 0, 0] = labels
    return x.to(torch.uint8)


def watching(truth: bool = True, labelled: bool = True, strokes: bool = False) -> Watching:
    labels = np.arange(COUNT) % 3
    spec = DataSpec((1, 3, 3), 256, classes=3, label_names=("ant", "bee", "cow"))
    split = Split({"x": images(torch.from_numpy(labels), 100).numpy(), "label": labels})
    data = Data(spec, split, None, split, "none", False, 0, stored_levels=256, name="insects", found=(0, 255))
    judge = Judge(SeesThePixel(), 1.0, 1.0, COUNT, COUNT) if labelled else None  # type: ignore[arg-type]
    see = Extractor("flat", "0", None, Flat()) if labelled else None
    return Watching(data, judge, "0", see, truth, strokes)


def batch() -> Batch:
    labels = torch.arange(COUNT) % 3
    return Batch(x=images(labels, 100), label=labels, source=images(0 * labels, 20))


def test_a_perfect_translator_is_as_good_as_the_truth() -> None:
    watch, real = watching(), batch()
    watch(real, {"translation": real.x})
    lines, figures = watch.report([real.x])
    assert figures["label_accuracy"] == figures["label_accuracy_truth"] == 1
    assert figures["label_accuracy_source"] == pytest.approx(1 / 3)
    assert figures["frechet"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_train"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_source"] > 1000
    assert (figures["extractor"], figures["extractor_weights"]) == ("flat", "0")
    assert figures["confusion"] == [[20, 0, 0], [0, 20, 0], [0, 0, 20]]
    assert not any("confused" in line or "note" in line for line in lines)


def test_labels_that_are_exchanged_are_found_out() -> None:
    """Ant to bee to cow to ant: there and back costs nothing, and images are as they should be."""
    watch, real = watching(), batch()
    assert real.label is not None
    watch(real, {"translation": images((real.label + 1) % 3, 100)})
    lines, figures = watch.report([real.x])
    assert figures["label_accuracy"] == 0
    assert figures["label_accuracy_renamed"] == 1
    assert figures["frechet"] < 1
    assert figures["confusion"] == [[0, 20, 0], [0, 0, 20], [20, 0, 0]]
    assert any("ant seen as bee, 20 of 20" in line for line in lines)
    assert any(line.startswith("note    renamed one to one, 1.0000 of the labels") for line in lines)


def test_without_a_truth_labels_say_nothing_and_without_labels_there_is_no_classifier() -> None:
    watch, real = watching(truth=False), batch()
    watch(real, {"translation": real.x})
    _, figures = watch.report([real.x])
    assert "label_accuracy" not in figures
    assert "frechet" in figures
    watch = watching(labelled=False)
    watch(real, {"translation": real.x})
    lines, figures = watch.report([real.x])
    assert figures == {}
    assert "take features=lite0" in lines[0]


def test_another_model_stands_beside() -> None:
    """One keeps all labels, the other exchanges two of three: it is better by as much, the error paired."""
    watch, real = watching(), batch()
    assert real.label is not None
    other = images(torch.tensor([0, 2, 1])[real.label], 90)
    watch(real, {"translation": real.x, "beside": other})
    lines, figures = watch.report([real.x])
    assert figures["label_accuracy_beside"] == pytest.approx(1 / 3)
    assert figures["label_accuracy_gain"] == pytest.approx(2 / 3)
    wrong = (real.label > 0).double()
    assert figures["label_accuracy_gain_stderr"] == pytest.approx(float(wrong.std()) / COUNT**0.5)
    assert figures["frechet_beside"] > 100
    assert figures["frechet_of_beside"] == figures["frechet"] / figures["frechet_beside"]
    assert any("0.3333" in line and "+0.6667" in line for line in lines)


def strokes(lean: Tensor, wide: Tensor) -> Tensor:
    """Light strokes that lean by so many pixels a line, so many pixels wide: uint8 [N, 1, 16, 24]."""
    y, x = torch.arange(16)[:, None], torch.arange(24)
    middle = 12 - lean[:, None, None] * (y - 8)
    ink = ((x - middle).abs() <= wide[:, None, None] / 2) & (y > 2) & (y < 13)
    return 255 * ink[:, None].to(torch.uint8)


def test_strokes_that_stand_as_they_did_and_strokes_of_other_images() -> None:
    """A copy has no error, images of others have that of chance; a negative has the same strokes."""
    lean, wide = torch.linspace(-0.5, 0.5, COUNT), 1 + 4 * torch.rand(COUNT)
    x = strokes(lean, wide)
    real = Batch(x=x, label=torch.arange(COUNT) % 3, source=255 - x)
    watch = watching(labelled=False, strokes=True)
    watch(real, {"translation": x, "beside": x.flip(0)})
    _, figures = watch.report([x])
    for look in ("slant", "thickness"):
        assert figures[f"{look}_error"] == figures[f"{look}_error_source"] == 0
        assert figures[f"{look}_with_truth"] == figures[f"{look}_with_source"] == pytest.approx(1)
        assert figures[f"{look}_error_beside"] > 0.8 * figures[f"{look}_error_shuffled"] > 0
    assert figures["slant_with_truth_beside"] < -0.9
    assert figures["slant_error_beside"] == pytest.approx(0.5, abs=0.1), "leaning the other way"
    watch = watching(truth=False, labelled=False, strokes=True)
    watch(real, {"translation": x})
    lines, figures = watch.report([x])
    assert figures["slant_with_source"] == pytest.approx(1)
    assert not any("error" in name or "truth" in name for name in figures)
    assert any("rank correlation with the source's" in line for line in lines)


def test_the_classifier_looks_at_an_image_once() -> None:
    """Its features and the label that it sees are of one look, and those of a look for each."""
    torch.manual_seed(0)
    watch, real = watching(), batch()
    net = Classifier(watch.data.spec, Recipe(widths=(4, 4))).eval()
    looks: list[int] = []
    net.features.register_forward_hook(lambda module, given, found: looks.append(len(given[0])))
    watch.judge = Judge(net, 1.0, 1.0, COUNT, COUNT)
    watch.see = Extractor("classifier", "0", None, ClassifierFeatures(net))
    watch(real, {"translation": real.x})
    assert looks == [COUNT] * 3, "translation, truth and source"
    assert torch.equal(watch.seen["truth"][0], net(real.x).argmax(1))
    assert torch.equal(watch.features["truth"][0], net.hidden(real.x))
