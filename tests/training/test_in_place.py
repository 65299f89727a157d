"""Losses write buffers in place, and in training mode only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import toys
from running import MODELS, Ended, toy
from torch import Tensor, nn

from gentrain import DataSpec, build
from gentrain.contracts import Batch
from gentrain.errors import UserError
from gentrain.training.in_place import WrittenInPlace

RUN = ["dataset=digits", "train.steps=4", "run_dir=run"]


def replacing(self: toys.ToyChain, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    self.count = self.count + 1
    return (batch.x.flatten(1) - self.mean).square().mean(), {}


@pytest.mark.parametrize("average", ["null", "0.9"])
def test_a_buffer_that_a_loss_replaces_is_named(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, average: str
) -> None:
    monkeypatch.setattr(toys.ToyChain, "loss", replacing)
    refused = gentrain("train", *toy("toy_chain"), *RUN, f"train.ema={average}")
    assert refused.status == 2
    line = refused.one_line()
    assert "ToyChain: a loss has replaced the buffer count by another tensor" in line
    assert "write it in place, self.count.copy_(...)" in line


def test_buffers_within_and_those_that_come_later() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    written = WrittenInPlace(net)
    assert [len(b) for b in written.shared] == [2, 2], "the count of batches is the same everywhere"
    net(torch.randn(4, 2))
    written.check()
    net[0].register_buffer("late", torch.zeros(1))
    with pytest.raises(UserError, match=r"the buffer 0\.late "):
        written.check()
    del net[0].late
    net[1].running_mean = torch.zeros(2)
    with pytest.raises(UserError, match=r"Sequential: .*self\.1\.running_mean\.copy_"):
        written.check()


def in_eval_mode_nothing_changes(model: nn.Module, spec: DataSpec) -> None:
    x = torch.randint(0, spec.levels, (8, *spec.shape), dtype=torch.uint8)
    source = x.flip(0) if spec.source_shape is not None else None
    batch = Batch(x, torch.arange(8) % 10 if spec.classes else None, source=source)
    if spec.caption_length is not None:
        batch = batch._replace(caption=torch.ones(8, spec.caption_length, dtype=torch.int64))
    model.data_dependent_init(batch)  # type: ignore[operator]
    model.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for turn in model.turns():  # type: ignore[operator]
        turn.loss(batch, 0)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


SPEC = DataSpec((1, 8, 8), levels=17, classes=10, label_names=tuple("0123456789"))


def test_ranks_share_chains_and_not_masks_or_counters() -> None:
    model = nn.Module()
    model.register_buffer("chain", torch.zeros(3, dtype=torch.uint8))
    model.register_buffer("mean", torch.zeros(()))
    model.register_buffer("mask", torch.zeros(3, dtype=torch.bool))
    model.register_buffer("steps", torch.zeros((), dtype=torch.int64))
    shared = WrittenInPlace(model).shared
    assert [id(b) for b in shared] == [id(model.chain), id(model.mean)]


@pytest.mark.parametrize("name", MODELS)
def test_in_eval_mode_no_loss_changes_a_buffer(name: str) -> None:
    arguments = [word for word in MODELS[name] if word.startswith("model")]
    two_levels = any(word.startswith("dataset.binarize") for word in MODELS[name])
    spec = replace(SPEC, levels=2) if two_levels else SPEC
    if any(word.startswith("dataset.source") for word in MODELS[name]):
        spec = replace(spec, source_shape=SPEC.shape, paired="dataset.paired=false" not in MODELS[name])
    if "dataset.stacked=true" in MODELS[name]:
        spec = replace(spec, vocabulary=("a", "seven"), caption_length=3)
    with torch.no_grad():
        model = build(arguments, spec)
    in_eval_mode_nothing_changes(model, spec)


def test_in_eval_mode_the_toys_change_nothing_either() -> None:
    in_eval_mode_nothing_changes(toys.ToyChain(SPEC), SPEC)
    gan = toys.ToyGAN(SPEC, latent_dim=2, hidden=4, n_critic=1, noise="random", norm=True)
    in_eval_mode_nothing_changes(gan, SPEC)
