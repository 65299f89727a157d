"""Half precision where the processor has none: computed all the same, many times slower, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import Ended

from gentrain.training import precision
from gentrain.training.precision import Precision, pick_precision, product_seconds

CPU = torch.device("cpu")
TINY = ["model=vae_mlp", "model.hidden=[8]", "dataset=digits", "train.steps=2", "train.batch_size=8"]


def test_how_slow_is_relative_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0.1 < pick_precision("fp32", CPU).slowness() < 10, "the same product twice"
    seen: list[bool] = []

    def seconds(device: torch.device, side: int) -> float:
        half = torch.is_autocast_enabled("cpu")
        seen.append(half)
        return 6.0 if half else 2.0

    monkeypatch.setattr(precision, "product_seconds", seconds)
    assert pick_precision("bf16", CPU).slowness() == 3.0
    assert seen == [False, True]


def test_a_product_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < product_seconds(CPU, 16) < 10
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.zeros(*size, device=device))
    with pytest.raises(ArithmeticError, match="not 16"):
        product_seconds(CPU, 16)


@pytest.mark.parametrize(("times", "said"), [(30.0, True), (1.0, False)])
def test_emulated_bf16_is_warned_of(
    gentrain: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: float, said: bool
) -> None:
    monkeypatch.setattr(Precision, "slowness", lambda self: times)
    done = gentrain("train", *TINY, "precision=bf16", f"run_dir={tmp_path / 'run'}")
    assert done.status == 0, done.err
    assert ("30 times as long in it as in float32; take precision=fp32" in done.out) == said
    done = gentrain("train", *TINY, "precision=fp32", f"run_dir={tmp_path / 'other'}")
    assert "instructions" not in done.out, "only of what was asked for"
