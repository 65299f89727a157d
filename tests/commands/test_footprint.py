"""What a dry run says of memory and disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from running import MODELS, Ended
from torch import nn
from torch.nn import functional as F

from gentrain import DataSpec, build
from gentrain.commands import footprint
from gentrain.contracts import Batch, Turn
from gentrain.training.precision import Precision

FP32 = Precision("fp32", "cpu")
SPEC = DataSpec(shape=(1, 8, 8), levels=17)


def batch(images: int) -> Batch:
    return Batch(torch.randint(0, 17, (images, 1, 8, 8), dtype=torch.uint8))


def test_activations_are_what_a_loss_keeps() -> None:
    net = nn.Linear(64, 100)

    def loss(batch: Batch, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        hidden = net(batch.x.flatten(1).float())  # keeps its input
        return F.relu(hidden).sum(), {}  # keeps its output

    for images in (1, 4, 8, 50):
        expected = 4 * images * (64 + 100)
        assert footprint.activations(Turn("main", [net], loss), batch(images), FP32) == expected


@pytest.mark.parametrize("name", ["vae", "gan", "glow", "iwae_2"])
def test_a_few_images_tell_of_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [word for word in MODELS[name] if word.startswith("model")]
    model = build(chosen, SPEC).train()
    for turn in model.turns():
        guessed = footprint.activations(turn, batch(40), FP32)
        with monkeypatch.context() as patch:
            patch.setattr(footprint, "MEASURED", (20, 40))
            assert guessed == pytest.approx(footprint.activations(turn, batch(40), FP32), rel=0.02)


def test_what_each_optimiser_keeps(gentrain: Callable[..., Ended]) -> None:
    def found(*arguments: str) -> SimpleNamespace:
        done = gentrain("train", "model=vae_mlp", "model.hidden=[500]", "dry_run=true", *arguments)
        assert done.status == 0, done.err
        (line,) = [line for line in done.out.splitlines() if line.startswith("memory")]
        return SimpleNamespace(**{k: float(v) for k, v in re.findall(r"(\w+) (\d+\.\d)", line)}, line=line)

    adam = found("train.ema=0.9")
    assert adam.weights == adam.gradients == adam.average > 0.5
    assert adam.optimiser == pytest.approx(2 * adam.weights, abs=0.11)
    assert "128 images at once" in adam.line
    plain = found(
        "train.ema=null",
        "optim.main._target_=torch.optim.SGD",
        "~optim.main.betas",
        "~optim.main.eps",
        "train.accumulate=2",
    )
    assert plain.average == plain.optimiser == 0
    assert "64 images at once" in plain.line
    assert plain.activations < adam.activations
