"""`gentrain translate` and the metric `translation`, as a user types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import Ended, quietly_in

from gentrain.cli import main

LITTLE = [
    "dataset=digits",
    "dataset.source=invert",
    "train.steps=4",
    "train.batch_size=8",
    "train.sample_every=4",
]
SMALL = ["model.channels=4", "model.patch_channels=4"]


@pytest.fixture(scope="session")
def translators_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("translators")
    with quietly_in(place):
        assert main(["train", "model=pix2pix", *SMALL, *LITTLE, "train.sample_every=4", "run_dir=pairs"]) == 0
        halves = [
            "schedule.generator.constant=2",
            "schedule.discriminator.constant=2",
            "dataset.paired=false",
        ]
        assert (
            main(["train", "model=cyclegan", *SMALL, *LITTLE, *halves, "model.blocks=1", "run_dir=cycle"])
            == 0
        )
    return place


@pytest.fixture
def translators(translators_once: Path, workplace: Path) -> Path:
    shutil.copytree(translators_once, workplace, symlinks=True, dirs_exist_ok=True)
    return workplace


def size_of(picture: str) -> tuple[int, int]:
    with Image.open(picture) as opened:
        return opened.size


def test_test_images_are_shown_in_rows(translators: Path, gentrain: Callable[..., Ended]) -> None:
    tile = 56 + 2
    assert size_of("pairs/translations/step_00000004.png") == (8 * tile + 2, 3 * tile + 2)
    done = gentrain("translate", "ckpt=pairs", "images=0,1,2")
    assert done.status == 0, done.err
    assert "3 images, from top to bottom: source, translation, truth" in done.out
    assert size_of("pairs/translations.png") == (3 * tile + 2, 3 * tile + 2)
    done = gentrain("translate", "ckpt=cycle", "direction=BtoA", "images=0,1", "out=b.png")
    assert done.status == 0, done.err
    assert "source, translation, back, truth" in done.out


def test_a_picture_becomes_a_picture(translators: Path, gentrain: Callable[..., Ended]) -> None:
    Image.fromarray(np.zeros((30, 30), np.uint8)).save("sketch.png")
    done = gentrain("translate", "ckpt=pairs", "images=sketch.png", "out=photo.png")
    assert done.status == 0, done.err
    assert size_of("photo.png") == (60, 60)
    Path("many").mkdir()
    for i in range(3):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(f"many/{i}.png")
    done = gentrain("translate", "ckpt=pairs", "images=many", "out=rows.png")
    assert "3 images, from top to bottom: source, translation" in done.out


def test_the_metric_stands_beside_copying(translators: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("eval", "ckpt=pairs", "metrics=[translation]")
    assert done.status == 0, done.err
    found = json.loads(Path("pairs/eval_translation_test.json").read_text())
    assert found["images"] == 297
    assert {"l1", "l1_source", "psnr", "ssim", "alike", "l1_stderr"} <= set(found)
    assert found["label_accuracy_truth"] == pytest.approx(found["classifier_accuracy"])
    assert found["frechet_train"] < min(found["frechet"], found["frechet_source"])
    assert sum(map(sum, found["confusion"])) == 297
    done = gentrain("eval", "ckpt=cycle", "metrics=[translation]", "limit=20")
    assert "cycle" in done.out
    assert "l1 " in done.out, "the test images keep their pairs"
    done = gentrain("eval", "ckpt=cycle", "metrics=[translation]", "split=train", "limit=20")
    assert "l1 " not in done.out, "and the training images have none"
    assert "labels" not in done.out
    assert "frechet" in done.out


MISTAKES = {
    "one way": (["translate", "ckpt=pairs", "direction=BtoA"], "pix2pix was trained AtoB and goes one way"),
    "a direction": (["translate", "ckpt=cycle", "direction=up"], "direction"),
    "no file": (["translate", "ckpt=pairs", "images=no.png"], "images=no.png: expected test indices"),
    "no such image": (["translate", "ckpt=pairs", "images=999"], "there is no image 999"),
    "no translator": (["translate", "ckpt=mlp"], "translate: vae_mlp cannot do this"),
    "no samples": (["sample", "ckpt=pairs"], "it translates images: gentrain translate"),
    "no likelihood": (["eval", "ckpt=pairs"], "metrics=[translation]"),
    "no partners": (["train", "model=pix2pix", "dataset=digits"], "its images have no partners"),
    "no root": (["train", "model=cyclegan", "dataset=domains"], "dataset=domains needs dataset.root=PATH"),
}


@pytest.mark.parametrize("why", MISTAKES)
def test_a_mistake_gets_one_line(why: str, translators: Path, gentrain: Callable[..., Ended]) -> None:
    arguments, reason = MISTAKES[why]
    if "ckpt=mlp" in arguments:
        small = [
            "dataset=digits",
            "train.steps=1",
            "train.batch_size=8",
            "train.sample_count=1",
            "run_dir=mlp",
        ]
        assert gentrain("train", "model=vae_mlp", "model.hidden=[4]", *small).status == 0
    done = gentrain(*arguments)
    assert done.status == 2
    assert reason in done.one_line()
