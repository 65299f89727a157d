"""What takes longer: networks of the papers' sizes, and an epoch of MNIST."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from enumerating import images
from running import Ended

from gentrain.api import compose_train
from gentrain.building import build_model
from gentrain.contracts import Batch, DataSpec

MNIST, CIFAR = DataSpec((1, 28, 28), levels=2), DataSpec((3, 32, 32), levels=256)
#: (settings, images, parameters in millions as far as they are published)
PAPERS = [
    (["model=nade", "model.activation=sigmoid"], MNIST, 0.785),
    (["model=made", "model.hidden=[8000,8000]", "model.masks=2"], MNIST, None),
    (["model=pixelcnn", "model.skips=true"], MNIST, None),
    (["model=gated_pixelcnn", "model.channels=128", "model.depth=10"], MNIST, None),
    (["model=row_lstm", "model.hidden=16", "model.depth=12"], MNIST, None),
    (["model=diagonal_bilstm", "model.hidden=16", "model.depth=7"], MNIST, None),
    (
        ["model=diagonal_bilstm", "model.hidden=128", "model.depth=12", "model.head_channels=1024"],
        CIFAR,
        None,
    ),
    (["model=pixelcnnpp", "model.channels=160", "model.depth=5", "model.dropout=0.5"], CIFAR, None),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "spec", "millions"), PAPERS, ids=lambda v: " ".join(v[:1]) if isinstance(v, list) else ""
)
def test_two_steps_at_the_papers_size(settings: list[str], spec: DataSpec, millions: float | None) -> None:
    torch.manual_seed(0)
    model = build_model(compose_train([*settings, "dataset=mnist"]).model, spec)
    if millions is not None:
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    batch = Batch(images(spec, 2))
    model.data_dependent_init(batch)
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    losses = []
    for step in range(2):
        loss, _ = model.loss(batch, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[1] < losses[0] or "model.masks=2" in settings or "model.dropout=0.5" in settings
    assert all(0 < loss < 30 * spec.dims for loss in losses)


@pytest.mark.slow
@pytest.mark.skipif("GENTRAIN_DATA" not in os.environ, reason="needs the real MNIST")
def test_an_epoch_of_nade_beats_one_of_fvbn(gentrain: Callable[..., Ended], tmp_path: Path) -> None:
    nats = {}
    for name in ("nade", "fvbn"):
        run = tmp_path / name
        length = ["train.steps=118", "train.sample_every=118", "train.checkpoint_every=118"]
        trained = gentrain("train", f"experiment={name}_mnist", *length, f"run_dir={run}")
        assert trained.status == 0, trained.err
        measured = gentrain("eval", f"ckpt={run}", "limit=1000")
        nats[name] = float(measured.out.partition("nll")[2].split()[0])
    assert nats["nade"] < 140 < nats["fvbn"]
