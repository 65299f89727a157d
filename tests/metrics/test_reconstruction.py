"""The error of reconstructions, against arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, Reconstructs
from gentrain.metrics.reconstruction import evaluate_reconstruction, figures

SPEC = DataSpec(shape=(1, 2, 2), levels=5)


class Darker(Reconstructs):
    """Shows every pixel one level darker, and two."""

    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        return {"image": batch.x, "one": batch.x - 1, "two": batch.x - 2}


class Zero(Reconstructs):
    """Shows black."""

    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        return {"restored": torch.zeros_like(batch.x), "clean": batch.x}


def test_of_the_range_0_to_1_without_wrapping_around() -> None:
    x = torch.full((3, 1, 2, 2), 2, dtype=torch.uint8)
    found = evaluate_reconstruction(Darker(SPEC), [Batch(x), Batch(x[:1])], SPEC)
    assert found.images == 4
    assert found.mse == pytest.approx({"one": 1 / 16, "two": 4 / 16})
    assert found.mse_stderr == pytest.approx({"one": 0, "two": 0})
    dark = torch.zeros(1, 1, 2, 2, dtype=torch.uint8) + 1
    assert evaluate_reconstruction(Zero(SPEC), [Batch(dark)], SPEC).mse == pytest.approx({"restored": 1 / 16})


def test_every_image_weighs_the_same_whatever_the_batches() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 5, (7, 1, 2, 2), dtype=torch.uint8)
    each = (x.double() / 4).square().flatten(1).mean(1)
    for sizes in ([7], [5, 2], [1] * 7):
        found = evaluate_reconstruction(Zero(SPEC), map(Batch, x.split(sizes)), SPEC)
        assert found.mse["restored"] == pytest.approx(each.mean().item())
        assert found.mse_stderr["restored"] == pytest.approx(each.std().item() / math.sqrt(7))
    assert figures(found) == {
        "images": 7,
        "restored_mse": found.mse["restored"],
        "restored_mse_stderr": found.mse_stderr["restored"],
    }


def test_one_image_has_no_standard_error_and_none_is_refused() -> None:
    x = torch.ones(1, 1, 2, 2, dtype=torch.uint8)
    assert math.isnan(evaluate_reconstruction(Zero(SPEC), [Batch(x)], SPEC).mse_stderr["restored"])
    with pytest.raises(ValueError, match="no images"):
        evaluate_reconstruction(Zero(SPEC), [], SPEC)
