"""The `next` line at the end of every command: what it proposes works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import MODELS, Ended, toy

from gentrain.commands.interpolate import first_pairs
from gentrain.commands.next import next_command
from gentrain.contracts import (
    Batch,
    Completes,
    DataSpec,
    GenerativeModel,
    HasLikelihood,
    ImagesToLatents,
    Invertible,
    LatentsToImages,
    Reconstructs,
    Samples,
    Translates,
)


def able(*capabilities: type, latent_prior: str = "gaussian") -> Any:
    """A model in name alone."""
    made: Any = type("Able", capabilities or (GenerativeModel,), {"latent_prior": latent_prior})
    return made(DataSpec((1, 1, 1)))


@pytest.mark.parametrize(
    ("model", "verbs", "expected"),
    [
        (able(Samples), ["sample", "eval"], "sample C"),
        (able(Samples), ["reconstruct", "sample"], "sample C"),
        (able(Samples), ["eval", "sample"], "sample C"),  # it has no likelihood
        (able(HasLikelihood), ["sample", "eval"], "eval C"),
        (able(Reconstructs), ["sample", "encode", "interpolate", "reconstruct"], "reconstruct C"),
        (able(ImagesToLatents), ["sample", "reconstruct"], "reconstruct C"),
        (able(Invertible), ["reconstruct"], "reconstruct C"),
        (able(LatentsToImages), ["encode", "reconstruct", "interpolate"], "interpolate C"),
        (able(ImagesToLatents), ["interpolate"], "interpolate C"),
        (able(ImagesToLatents, latent_prior="none"), ["interpolate"], "interpolate C"),
        (able(LatentsToImages, latent_prior="none"), ["interpolate"], "list"),
        (able(Translates), ["sample", "reconstruct", "eval"], "translate C"),
        (able(Completes), ["sample", "complete"], "complete C"),
        (able(), ["sample", "reconstruct", "eval"], "list"),
        (able(Samples), [], "list"),
    ],
)
def test_the_first_that_the_model_can_do(model: Any, verbs: list[str], expected: str) -> None:
    assert next_command(model, "C", *verbs) == f"gentrain {expected}"


def test_where_the_images_of_an_export_lie_has_to_be_said(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], pictures: str
) -> None:
    settings = ["dataset=folder", pictures, "train.batch_size=4", "train.steps=2", "run_dir=run"]
    assert gentrain("train", *MODELS["vae_mlp"], *settings).status == 0
    ended = gentrain("export", "ckpt=run", "out=shared")
    assert ended.out.splitlines()[-1] == "next    gentrain sample ckpt=shared"
    ended = follow(ended)
    assert ended.out.splitlines()[-1] == "next    gentrain eval ckpt=shared dataset.root=PATH"
    assert gentrain("sample", "ckpt=run").out.splitlines()[-1] == "next    gentrain eval ckpt=run"
    assert "dataset=folder needs dataset.root=PATH" in gentrain("eval", "ckpt=shared").one_line()
    done = gentrain("eval", "ckpt=shared", pictures)
    assert done.status == 0, done.err
    # One that only reads data proposes to say it at once; of data that need no place, nothing.
    assert gentrain("train", *MODELS["ae"], *settings[:-1], "run_dir=ae").status == 0
    ended = gentrain("export", "ckpt=ae", "out=ae-shared")
    assert ended.out.splitlines()[-1] == "next    gentrain reconstruct ckpt=ae-shared dataset.root=PATH"
    assert gentrain("train", *MODELS["ae"], "train.steps=2", "run_dir=digits").status == 0
    ended = gentrain("export", "ckpt=digits", "out=digits-shared")
    assert ended.out.splitlines()[-1] == "next    gentrain reconstruct ckpt=digits-shared"


#: What is proposed after training, and after each command that was proposed.
CHAINS = {
    "ae": ["reconstruct", "interpolate", "encode", "reconstruct"],
    "dae": ["sample", "reconstruct", "interpolate"],
    "cvae": ["sample", "eval", "sample"],
    "toy_gan": ["sample", "interpolate", "sample"],
}


@pytest.mark.parametrize("name", CHAINS)
def test_one_command_leads_to_the_next(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], workplace: Path, name: str
) -> None:
    arguments = MODELS[name] if name in MODELS else toy(name)
    trust = [word for word in arguments if word.startswith("trust")]
    ended = gentrain("train", *arguments, "train.steps=2", "run_dir=my run")
    for verb in CHAINS[name]:
        assert ended.out.splitlines()[-1].split()[:3] == ["next", "gentrain", verb]
        ended = follow(ended, *trust)
        assert ended.status == 0, ended.err


@pytest.fixture
def pictures(workplace: Path) -> str:
    """An album of 19 pictures without labels, of which two are for testing."""
    draw = np.random.default_rng(0)
    Path("album").mkdir()
    for i in range(19):
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"album/{i:02}.png")
    return "dataset.root=album"


@pytest.mark.parametrize(
    ("name", "test", "verbs"),
    [
        ("ae", "0.1", ["reconstruct", "interpolate", "encode", "reconstruct"]),
        ("ae", "0.05", ["reconstruct", "interpolate"]),
        ("vae", "0.1", ["sample", "eval", "sample"]),
        ("pixelcnn", "0.1", ["sample", "eval", "sample"]),
    ],
)
def test_of_an_album_with_fewer_images_than_are_shown(
    gentrain: Callable[..., Ended],
    follow: Callable[..., Ended],
    pictures: str,
    name: str,
    test: str,
    verbs: list[str],
) -> None:
    settings = [
        "dataset=folder",
        "dataset.split_rule=1",  # so many as are asked for
        pictures,
        f"dataset.test_fraction={test}",
        "train.batch_size=4",
        "train.steps=2",
    ]
    ended = gentrain("train", *MODELS[name], *settings, "run_dir=run")
    for verb in verbs:
        assert ended.out.splitlines()[-1].split()[:3] == ["next", "gentrain", verb]
        ended = follow(ended)
        assert ended.status == 0, ended.err
    if name == "pixelcnn":
        done = gentrain("complete", "n=1")
        assert done.status == 0, done.err
        assert "(2 rows:" in done.out


def test_only_numbers_that_were_typed_are_refused(gentrain: Callable[..., Ended], pictures: str) -> None:
    settings = ["model=ae_mlp", "model.hidden=[8]", "dataset=folder", pictures, "train.batch_size=4"]
    settings.append("dataset.split_rule=1")
    assert gentrain("train", *settings, "train.steps=2", "run_dir=run").status == 0
    assert "(2 images," in gentrain("reconstruct").out
    for verb, images in (("reconstruct", "0,1,2"), ("interpolate", "0,2"), ("encode", "2")):
        ended = gentrain(verb, f"images={images}")
        assert ended.status == 2
        assert "there is no image 2 among the 2 of folder; valid are 0 to 1" in ended.one_line()


@pytest.mark.parametrize(("count", "pairs"), [(1, [0, 0]), (2, [0, 1]), (3, [0, 1]), (5, [0, 1, 2, 3])])
def test_pairs_of_what_there_is(count: int, pairs: list[int]) -> None:
    assert first_pairs(Batch(torch.arange(count).view(-1, 1, 1, 1))).x.flatten().tolist() == pairs


def test_data_that_were_moved_are_found_by_the_next_command_too(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], pictures: str
) -> None:
    settings = ["model=ae_mlp", "model.hidden=[8]", "dataset=folder", pictures, "train.batch_size=4"]
    assert gentrain("train", *settings, "train.steps=2", "run_dir=run").status == 0
    Path("album").rename("moved here")
    ended = gentrain("reconstruct", "dataset.root=moved here")
    for verb in ("interpolate", "encode", "reconstruct"):
        assert f"gentrain {verb} ckpt=run 'dataset.root=moved here'" in ended.out
        ended = follow(ended)
        assert ended.status == 0, ended.err
