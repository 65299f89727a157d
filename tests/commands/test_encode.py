"""`gentrain encode`: latents as an archive, with the labels of their images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import Ended

import gentrain as package
from gentrain.api import compose_train
from gentrain.config import build_source
from gentrain.data.source import Data


def digits() -> Data:
    return build_source(compose_train([]).dataset).load()


@pytest.mark.parametrize(
    ("split", "count", "batch_size"), [("test", 297, 100), ("validation", 150, 150), ("train", 1350, 400)]
)
def test_a_split(
    gentrain: Callable[..., Ended],
    follow: Callable[..., Ended],
    trained: SimpleNamespace,
    split: str,
    count: int,
    batch_size: int,
) -> None:
    done = gentrain("encode", f"split={split}", f"batch_size={batch_size}")
    assert done.status == 0, done.err
    assert f"(latents [{count}, 4], labels)" in done.out
    with np.load(trained.conv / "latents.npz") as archive:
        assert set(archive) == {"latents", "labels"}
        latents, labels = archive["latents"], archive["labels"]
    part = getattr(digits(), split)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, part.labels)
    assert (latents.shape, latents.dtype) == ((count, 4), np.float32)
    model: Any = package.load(trained.conv)
    expected = model.images_to_latents(torch.from_numpy(np.array(part.images)))
    assert np.allclose(latents, expected, atol=1e-5)
    then = follow(done)
    assert then.status == 0, then.err
    assert (trained.conv / "reconstructions.png").is_file()


def test_chosen_images(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("encode", "images=8,1", "out=some/where.npz")
    assert done.status == 0, done.err
    with np.load("some/where.npz") as archive:
        latents = archive["latents"]
        assert set(archive) == {"latents"}, "images that were named have no labels"
    model: Any = package.load(trained.conv)
    expected = model.images_to_latents(torch.from_numpy(np.array(digits().test.images[[8, 1]])))
    assert np.allclose(latents, expected, atol=1e-5)


def test_images_of_ones_own(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    Image.new("RGB", (31, 17), (255, 255, 255)).save("white.png")
    assert gentrain("encode", "images=white.png", "out=x.npz").status == 0
    model: Any = package.load(trained.conv)
    expected = model.images_to_latents(torch.full((1, 1, 8, 8), 16, dtype=torch.uint8))
    assert np.allclose(np.load("x.npz")["latents"], expected, atol=1e-5)


def test_latents_are_equal_from_run_to_run(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """The mean of q(z|x), not a draw: the seed does not count."""
    for seed in (0, 1):
        assert gentrain("encode", f"seed={seed}", f"out={seed}.npz").status == 0
    assert Path("0.npz").read_bytes() == Path("1.npz").read_bytes()


def test_no_validation_images(gentrain: Callable[..., Ended], workplace: Path) -> None:
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "dataset.validation=0"]
    assert gentrain("train", *settings, "train.batch_size=8", "run_dir=run").status == 0
    ended = gentrain("encode", "split=validation")
    assert ended.status == 2
    assert "dataset.validation=0" in ended.one_line()
    assert not Path("run/latents.npz").exists()
