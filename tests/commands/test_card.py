"""An export's card: what it says of the model, and under which licence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from composing_once import composed_once
from exporting import FEW, described
from PIL import Image
from running import SUPPORT, Ended, toy

from gentrain import exported
from gentrain.commands import card
from gentrain.config import options
from gentrain.training import checkpoint


def test_the_cards_header(made: Path) -> None:
    for folder in ("flow-export", "gan-export"):
        text = (Path(folder) / exported.CARD).read_text()
        _, header, body = text.split("---\n", 2)
        found = yaml.safe_load(header)
        assert found["license"] == "cc-by-4.0"
        assert found["library_name"] == "gentrain"
        assert found["pipeline_tag"] == "unconditional-image-generation"
        assert found["datasets"] == ["digits"]
        assert "gentrain" in found["tags"]
        assert ("metrics" in found) == (folder == "flow-export")
        assert "CC BY 4.0" in body
        assert "gentrain.load(" in body
        assert "samples.png" in body
        assert described(folder)["weights"]["sha256"] in body
    assert "critic" in text


def test_a_licence_and_a_name_of_ones_own(made: Path, gentrain: Callable[..., Ended]) -> None:
    """The header is YAML whatever the data set is called."""
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    config = yaml.safe_load(state["config"])
    config["names"]["dataset"] = 'a: "b"\n- c'
    checkpoint.save({**state, "config": yaml.safe_dump(config)}, Path("odd.pt"))
    done = gentrain("export", "ckpt=odd.pt", "out=odd", "trust=toys", "license=apache-2.0")
    assert done.status == 0, done.err
    header = yaml.safe_load((Path("odd") / exported.CARD).read_text().split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert header["datasets"] == ['a: "b"\n- c']


def test_every_data_set_of_ours_has_a_licence() -> None:
    own = {"folder", "audio", "pairs", "domains", "captions"}  # the user's
    for name in options("dataset"):
        dataset = composed_once(f"dataset={name}").dataset
        assert (card.licence_of(dataset) is card.UNKNOWN) == (name in own), name


@pytest.mark.parametrize(
    ("result", "short"),
    [
        (None, "unknown"),
        ({"data": "gentrain.data.cifar10.CIFAR10"}, "research-use"),
        ({"data": "gentrain.data.folder.Folder", "license": "MIT"}, "mit"),
    ],
)
def test_a_reproductions_data_are_its_experiments(result: dict[str, str] | None, short: str) -> None:
    run = composed_once("dataset=folder", "dataset.root=photographs.zip")
    assert card.licence_of(card.learnt_from(run, result)).short == short


def test_every_experiment_that_comes_along_has_a_licence() -> None:
    """Of the user's own images an experiment states it."""
    for name in options("experiment"):
        dataset = composed_once(f"experiment={name}").dataset
        assert card.licence_of(dataset) is not card.UNKNOWN, name


@pytest.mark.parametrize(
    ("stated", "hub", "short", "words"),
    [
        ("CC-BY-4.0", "cc-by-4.0", "cc-by-4.0", "of whoever trained it, CC-BY-4.0"),
        ("mit,  a friend's\n photographs", "mit", "mit", "a friend's photographs, mit"),
        ("CC-BY-4.0 AND MIT, two sets", "other", "cc-by-4.0-and-mit", "two sets, CC-BY-4.0 AND MIT"),
        ("GPL-3.0-only", "other", "gpl-3.0-only", "of whoever trained it, GPL-3.0-only"),
        ("ours, and for the lab", "other", "ours", "and for the lab, ours"),
        ("for the lab alone: ask us, please", "other", "for-the-lab-alone-ask-us-please", None),
    ],
)
def test_what_a_data_sets_licence_says(stated: str, hub: str, short: str, words: str | None) -> None:
    assert card.read_licence(stated) == card.Licence(hub, short, words or stated)


def test_the_card_says_the_data_sets_licence(
    made: Path, gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SUPPORT))
    few = [*toy("toy_flow"), *FEW]
    said = "dataset.license='CC0-1.0, drawn by my sister'"
    assert gentrain("train", *few, said, "run_dir=hers").status == 0
    assert gentrain("train", "resume=hers", "train.steps=4", "trust=toys").status == 0
    assert gentrain("export", "ckpt=hers", "out=shared", "trust=toys", "n=1").status == 0
    assert gentrain("export", "ckpt=shared", "out=again", "trust=toys", "n=1").status == 0
    for folder in ("shared", "again"):
        _, header, body = (Path(folder) / exported.CARD).read_text().split("---\n", 2)
        assert yaml.safe_load(header)["license"] == "cc0-1.0"
        assert "- data: drawn by my sister, CC0-1.0\n" in body
    done = gentrain("train", *few, "dataset.license=' '", "run_dir=empty")
    assert done.status == 2
    assert "dataset.license must be an SPDX id or one line of words" in done.one_line()


def test_an_experiments_licence_is_not_that_of_other_images(
    workplace: Path, gentrain: Callable[..., Ended]
) -> None:
    (workplace / "mine").mkdir()
    for number in range(8):
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(workplace / "mine" / f"{number}.png")
    little = ["experiment=gan_emoji", "dataset.image_size=8", "model.attention=0", "model.channels=4"]
    little += ["model.discriminator_channels=4", "model.latent_dim=8", "dry_run=true", "precision=fp32"]
    arguments = [*little, "train.batch_size=2", "dataset.root=mine"]
    done = gentrain("train", *arguments)
    assert "note    no licence of the data in dataset.root is known" in done.out, done.err
    assert "no licence" not in gentrain("train", *arguments, "dataset.license=MIT").out


@pytest.mark.parametrize(
    ("metric", "estimator", "expected"),
    [
        ("likelihood.nats", "IWAE-5000, mnist test, 10,000 images", " samples=5000"),
        ("likelihood.nats", "exact, mnist test, 10,000 images", ""),
        ("classifier.entropy", "10,000 samples, seen by a classifier of mnist", " metrics=[classifier]"),
    ],
)
def test_the_command_that_measures_again(metric: str, estimator: str, expected: str) -> None:
    result = {"experiment": "one", "obtained": {metric: 1.0}, "estimator": {metric: estimator}}
    assert card.measuring(result) == f"gentrain eval ckpt=results/one{expected}"
