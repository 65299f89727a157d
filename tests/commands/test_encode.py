"""`gentrain encode`: latents as an archive, with their images' labels, and in TensorBoard's projector."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from running import Ended, run_process
from tensorboard.plugins.projector import EmbeddingInfo, ProjectorConfig

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.data.source import Data
from gentrain.training import checkpoint


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


# The projector


def points(folder: Path) -> tuple[EmbeddingInfo, np.ndarray, list[str], np.ndarray]:
    """The only set of points: what is said of it, its latents, its labels, its sprite."""
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (info,) = config.embeddings
    latents = np.loadtxt(folder / info.tensor_path, dtype=np.float32, delimiter="\t", ndmin=2)
    assert list(info.tensor_shape) == list(latents.shape)
    labels = (folder / info.metadata_path).read_text().splitlines() if info.metadata_path else []
    with Image.open(folder / info.sprite.image_path) as image:
        return info, latents, labels, np.array(image)


def shown(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, 8, 8] of 17 levels -> the sprite, [S, S]."""
    columns = math.ceil(math.sqrt(len(images)))
    full = np.zeros((columns * columns, 8, 8))
    full[: len(images)] = np.rint(images[:, 0] * (255 / 16))
    return full.reshape(columns, columns, 8, 8).swapaxes(1, 2).reshape(columns * 8, columns * 8)


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file()}


def test_points_in_the_projector(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    before = files(trained.conv)
    done = gentrain("encode", "projector=true")
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == f"next    tensorboard --logdir {trained.conv}"
    assert f"wrote   {trained.conv}/projector_config.pbtxt" in done.out
    assert "note" not in done.out
    info, latents, labels, sprite = points(trained.conv)
    assert info.tensor_name == "latents_test_step_20"
    test = digits().test
    with np.load(trained.conv / "latents.npz") as archive:
        assert np.array_equal(archive["latents"], latents)
    assert labels == [str(label) for label in np.array(test.labels)]
    assert np.array_equal(sprite, shown(np.array(test.images)))
    assert list(info.sprite.single_image_dim) == [8, 8]
    # Nothing but these, so that nothing piles up, and TensorBoard still reads the curves.
    new = {str(file.relative_to(trained.conv)) for file in files(trained.conv) - before}
    parts = {f"projector/{name}" for name in ("tensors.tsv", "metadata.tsv", "sprite.png")}
    assert new == {"latents.npz", "projector_config.pbtxt", *parts}

    again = gentrain("encode", "projector=true", "split=validation", "out=x.npz")
    assert again.status == 0, again.err
    assert files(trained.conv) - before == {trained.conv / name for name in new}
    info, latents, labels, sprite = points(trained.conv)
    assert info.tensor_name == "latents_validation_step_20"
    validation = digits().validation
    assert validation is not None
    assert len(latents) == 150
    assert labels == [str(label) for label in np.array(validation.labels)]
    assert np.array_equal(sprite, shown(np.array(validation.images)))


def test_chosen_images_in_the_projector(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("encode", "projector=true", "images=8,1,5", "out=x.npz")
    assert done.status == 0, done.err
    test = digits().test
    _, latents, labels, sprite = points(trained.conv)
    with np.load("x.npz") as archive:
        assert set(archive) == {"latents"}
        assert np.array_equal(archive["latents"], latents)
    assert labels == [str(test.labels[i]) for i in (8, 1, 5)]  # type: ignore[index]
    assert np.array_equal(sprite, shown(np.array(test.images[[8, 1, 5]])))
    Image.new("RGB", (31, 17), (255, 255, 255)).save("white.png")
    done = gentrain("encode", "projector=true", "images=white.png", "out=x.npz")
    assert "note    without labels the points are all of one colour" in done.out
    info, latents, labels, sprite = points(trained.conv)
    assert (info.tensor_name, latents.shape, labels) == ("latents_images_step_20", (1, 4), [])
    assert np.array_equal(sprite, np.full((8, 8), 255))


def test_the_folder_is_quoted_for_a_shell(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("encode", "projector=true", f"ckpt={trained.spaced}")
    assert done.status == 0, done.err
    words = shlex.split(done.out.splitlines()[-1])
    assert words == ["next", "tensorboard", "--logdir", str(trained.spaced)]
    assert len(points(trained.spaced)[1]) == 297


def test_a_projector_needs_a_run_folder(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    (trained.mlp / "checkpoints" / "last.pt").rename("alone.pt")
    before = files(Path())
    ended = gentrain("encode", "ckpt=alone.pt", "projector=true")
    assert ended.status == 2
    assert "projector=true writes into a run folder, and alone.pt lies in none" in ended.one_line()
    assert "ckpt=" in ended.one_line()
    (trained.conv / "projector").write_text("in the way")
    ended = gentrain("encode", "projector=true")
    assert ended.status == 2
    assert "projector=true: cannot write to" in ended.one_line()
    assert "it is not a folder" in ended.one_line()
    assert gentrain("encode", "projector=maybe").status == 2
    assert files(Path()) - before == {trained.conv / "projector"}


def test_a_projector_of_weights_that_went_bad(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    state = checkpoint.load(trained.mlp / "checkpoints" / "last.pt")
    for weight in state["model"].values():
        weight.fill_(float("nan"))
    checkpoint.save(state, trained.mlp / "checkpoints" / "last.pt")
    before = files(Path())
    ended = gentrain("encode", "ckpt=mlp", "projector=true")
    assert ended.status == 1
    assert "latents of 297 of 297 images are not finite" in ended.one_line()
    assert files(Path()) == before


@pytest.mark.slow
def test_the_projector_from_a_shell(trained: SimpleNamespace) -> None:
    done = run_process("encode", "ckpt=mlp", "projector=true", cwd=Path())
    assert done.status == 0, done.err
    assert not done.err.strip()
    assert points(trained.mlp)[1].shape == (297, 4)
