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
from titled_sheets import around

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
        alone = ["model.adversarial=false", "model.noise=false", "run_dir=alone"]
        assert main(["train", "model=pix2pix", *SMALL, *LITTLE, *alone]) == 0
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


def test_rows_are_named(translators: Path, gentrain: Callable[..., Ended]) -> None:
    """A name beside each row, of which there are four for every eight images; no pixel of them is lost."""
    command = ["translate", "ckpt=cycle", "images=0,1,2,3,4,5,6,7,8"]
    for titles in ("false", "true"):
        assert gentrain(*command, f"titles={titles}", f"out={titles}.png").status == 0
    large, top, left, height = around("false.png", "true.png")
    for row in range(8):
        part = slice(top + row * height // 8, top + (row + 1) * height // 8)
        assert (large[part, :left] < 128).any(), "a name"


def test_a_picture_becomes_a_picture(translators: Path, gentrain: Callable[..., Ended]) -> None:
    Image.fromarray(np.zeros((30, 30), np.uint8)).save("sketch.png")
    done = gentrain("translate", "ckpt=pairs", "images=sketch.png", "out=photo.png")
    assert done.status == 0, done.err
    assert size_of("photo.png") == (60, 60)
    assert "note    images: 1 of 1 resized to 8x8 pixels, the first from 30x30\n" in done.out
    Path("many").mkdir()
    for i in range(3):
        Image.fromarray(np.zeros((8, 8 + 2 * (i > 0), 3), np.uint8)).save(f"many/{i}.png")
    done = gentrain("translate", "ckpt=pairs", "images=many", "out=rows.png")
    assert "3 images, from top to bottom: source, translation" in done.out
    assert (
        "note    images: 2 of 3 resized to 8x8 pixels, the first from 10x8; 2 of them cropped to the middle\n"
        "note    images: 3 of 3 of colour, taken as grey\n"
    ) in done.out
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("fits.png")
    done = gentrain("translate", "ckpt=pairs", "images=fits.png", "out=fitting.png")
    assert "note" not in done.out


def test_the_metric_stands_beside_copying(
    translators: Path, gentrain: Callable[..., Ended], quick_judge: None
) -> None:
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


def test_another_model_stands_beside(
    translators: Path, gentrain: Callable[..., Ended], quick_judge: None
) -> None:
    """Of the same images, in the same lines; the figures of the model itself are those that it has alone."""
    plain = gentrain("eval", "ckpt=pairs", "metrics=[translation]", "limit=40")
    assert plain.status == 0, plain.err
    done = gentrain("eval", "ckpt=pairs", "metrics=[translation]", "limit=40", "beside=alone")
    assert done.status == 0, done.err
    alone, both = (
        json.loads(Path(f"pairs/eval_translation_test_first_40{part}.json").read_text())
        for part in ("", "-2")
    )
    assert {key: value for key, value in both.items() if key in alone} == alone
    other = gentrain("eval", "ckpt=alone", "metrics=[translation]", "limit=40")
    assert other.status == 0, other.err
    theirs = json.loads(Path("alone/eval_translation_test_first_40.json").read_text())
    for name in ("psnr", "l1_source", "label_accuracy", "slant_error", "frechet_train"):
        assert name in alone
    for name in ("l1", "ssim", "alike", "label_accuracy", "thickness_error"):
        assert both[f"{name}_beside"] == theirs[name], "what it has where it is measured itself"
    assert both["l1_of_beside"] == pytest.approx(both["l1"] / both["l1_beside"])
    assert both["frechet_of_beside"] == pytest.approx(both["frechet"] / both["frechet_beside"])
    assert both["beside"] == {"checkpoint": "alone/checkpoints/last.pt", "step": 4}
    assert "beside  pix2pix on digits, step 4, alone/checkpoints/last.pt" in done.out
    assert f"{both['l1_beside']:.4f}" in next(line for line in done.out.splitlines() if " l1 " in line)
    cycle = gentrain("eval", "ckpt=cycle", "metrics=[translation]", "limit=20", "beside=pairs")
    assert cycle.status == 0, "of the same domains, though one was trained without pairs"


NOT_BESIDE = {
    "nothing there": (["beside=nowhere"], "beside=nowhere: no "),
    "no translator": (["beside=mlp"], "beside=mlp: vae_mlp has no translations"),
    "another domain": (["beside=other"], "dataset.source=outline, the model that is measured with"),
    "another size": (
        ["beside=large"],
        "expected one from 1x8x8 to 1x8x8 pixels of 17 levels, as",
    ),
    "held-out images it may have seen": (
        ["ckpt=cycle", "beside=pairs", "split=train"],
        "trained with dataset.paired=True, the model that is measured with False: of split=train the two do",
    ),
    "another data set": (
        ["ckpt=large", "beside=domains"],
        "it was trained on dataset=domains, the model that",
    ),
    "other images": (["ckpt=large", "beside=elsewhere"], "beside=elsewhere: it was trained on other images"),
    "no metric for it": (["beside=alone", "metrics=[likelihood]"], "has no likelihood"),
    "a metric of one": (["beside=mlp", "metrics=[reconstruction]", "ckpt=mlp"], "only metrics=[translation]"),
}


@pytest.fixture
def others(translators: Path, gentrain: Callable[..., Ended]) -> None:
    """What cannot stand beside: another kind of model, of other domains, of larger images."""
    few = ["train.steps=1", "train.batch_size=8", "train.sample_count=1"]
    Path("ab").mkdir()
    for i in range(12):
        Image.fromarray(np.full((16, 32), 20 * i, np.uint8)).save(f"ab/{i}.png")
    shutil.copytree("ab", "ba")
    shutil.copy("ab/1.png", "ba/2.png")
    for i in range(12):
        for domain in "AB":
            Path("two", domain).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16), 20 * i, np.uint8)).save(f"two/{domain}/{i}.png")
    domains = ["model=cyclegan", *SMALL, "model.blocks=1", "dataset=domains", "dataset.channels=1"]
    pairs = ["model=pix2pix", *SMALL, "dataset=pairs", "dataset.channels=1"]
    for args in (
        ["model=vae_mlp", "model.hidden=[4]", "dataset=digits", "run_dir=mlp"],
        ["model=pix2pix", *SMALL, "dataset=digits", "dataset.source=outline", "run_dir=other"],
        [*pairs, "dataset.root=ab", "run_dir=large"],
        [*pairs, "dataset.root=ba", "run_dir=elsewhere"],
        [*domains, "dataset.root=two", "run_dir=domains"],
    ):
        done = gentrain("train", *args, *few)
        assert done.status == 0, done.err


def test_what_does_not_compare_gets_one_line(others: None, gentrain: Callable[..., Ended]) -> None:
    """And nothing is measured before: no figure is written."""
    for why, (more, reason) in NOT_BESIDE.items():
        asked = {"ckpt": "ckpt=pairs", "metrics": "metrics=[translation]"}
        asked |= {word.partition("=")[0]: word for word in more}
        done = gentrain("eval", *asked.values(), "limit=20")
        assert done.status == 2, why
        assert reason in done.one_line(), why
    assert not list(Path().glob("*/eval_*.json"))


MISTAKES = {
    "one way": (["translate", "ckpt=pairs", "direction=BtoA"], "pix2pix was trained AtoB and goes one way"),
    "a direction": (["translate", "ckpt=cycle", "direction=up"], "direction"),
    "no file": (["translate", "ckpt=pairs", "images=no.png"], "images=no.png: expected test indices"),
    "no such image": (["translate", "ckpt=pairs", "images=999"], "there is no image 999"),
    "no translator": (["translate", "ckpt=mlp"], "translate: vae_mlp cannot do this"),
    "no samples": (["sample", "ckpt=pairs"], "it translates images: gentrain translate"),
    "no likelihood": (["eval", "ckpt=pairs"], "metrics=[translation]"),
    "unpaired": (
        ["train", "model=pix2pix", *LITTLE, "dataset.paired=false"],
        "its two domains are not paired; take dataset=pairs",
    ),
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


def test_photographs_are_where_one_says(workplace: Path, gentrain: Callable[..., Ended]) -> None:
    """An export says nowhere where those lay that images stood on; a command takes their place of now."""
    rng = np.random.default_rng(0)
    for folder, count in (("album", 40), ("secret_photos", 5)):
        Path(folder).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(256, size=(16, 16), dtype=np.uint8)).save(f"{folder}/{i:02}.png")
    made = ["dataset=folder", "dataset.root=album", "dataset.source=background"]
    few = ["train.steps=1", "train.batch_size=4", "dataset.channels=1", "run_dir=run"]
    photos = "dataset.background=secret_photos"
    done = gentrain("train", "model=pix2pix", *SMALL, *made, photos, *few)
    assert done.status == 0, done.err
    done = gentrain("export", "ckpt=run", "out=kept")
    places = {"dataset.root=PATH", "dataset.background=PATH"}
    assert {*done.out.splitlines()[-1].split()} >= {"translate", "ckpt=kept", *places}
    assert b"secret" not in Path("kept/config.json").read_bytes()
    show = ["translate", "ckpt=kept", "images=0,1", "dataset.root=album"]
    done = gentrain(*show)
    assert done.status == 2
    assert "dataset.source=background needs dataset.background=PATH, photographs" in done.one_line()
    assert not Path("translations.png").exists()
    shutil.move("secret_photos", "photos")
    done = gentrain(*show, "dataset.background=photos")
    assert done.status == 0, done.err
    assert "source, translation, truth" in done.out
    assert gentrain("translate", "ckpt=run", "images=0,1", "dataset.background=photos").status == 0
    assert gentrain("translate", "ckpt=run", "images=0,1").status == 2
    lost = gentrain("train", "resume=run", "train.steps=2")
    assert "dataset.background" in lost.one_line()
    done = gentrain("train", "resume=run", "train.steps=2", "dataset.background=photos")
    assert done.status == 0, done.err
    assert "not bit-exact" not in done.err, "they are the same ones"
    (next(Path("photos").iterdir())).unlink()
    done = gentrain("train", "resume=run", "train.steps=3", "dataset.background=photos")
    assert done.status == 0, done.err
    assert "not bit-exact" in done.err, "others, but named"
