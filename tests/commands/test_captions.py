"""Captions from the command line: trained on, drawn, walked between, added, measured; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import MODELS, Ended, quietly_in, run_process

import gentrain as package
from gentrain.api import load_checkpoint
from gentrain.cli import main
from gentrain.metrics import classifier
from gentrain.metrics.classifier import Recipe
from gentrain.titles import WIDE

FEW = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4"]
SEVEN, TWO = "a seven above a two", "a thick two above an eight"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of two digits and their captions."""
    place = tmp_path_factory.mktemp("run")
    with quietly_in(place):
        more = ["dataset.held_out=[seven above two,one above four]", "run_dir=run"]
        assert main(["train", *MODELS["text_gan"], *FEW, *more]) == 0
    return place / "run"


def test_a_caption_is_drawn_as_it_is_read(gentrain: Callable[..., Ended], run: Path) -> None:
    for i, caption in enumerate((SEVEN, "A SEVEN, above; a two!", "'a seven above a two'")):
        done = gentrain("sample", f"ckpt={run}", f"caption={caption}", "n=4", f"out={i}.npz")
        assert done.status == 0, done.err
    drawn = [np.load(f"{i}.npz")["images"] for i in range(3)]
    assert drawn[0].shape == (4, 1, 16, 8)
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], drawn[2])


def test_without_a_caption_those_of_training_are_drawn(gentrain: Callable[..., Ended], run: Path) -> None:
    model = package.load(run)
    examples = model.in_turn(70)  # type: ignore[operator]
    assert examples.shape == (70, 9)
    assert len({tuple(row.tolist()) for row in examples}) > 10
    assert all(int((row != 0).sum()) >= 5 for row in examples), "whole captions, not words"
    for titles in ("false", "true"):
        done = gentrain("sample", f"ckpt={run}", "n=4", f"titles={titles}", f"out={titles}.png")
        assert done.status == 0, done.err
    (height, width), (told, _) = (
        np.asarray(Image.open(f"{titles}.png")).shape for titles in ("false", "true")
    )
    rows = told - height * -(-WIDE // width) - 88 - 20  # without the title and the edge
    assert rows >= 2 * 40, "captions stand below both rows"


def test_walks_and_sums_of_captions(gentrain: Callable[..., Ended], run: Path) -> None:
    walk = ["interpolate", f"ckpt={run}", f"captions=[{SEVEN},{TWO}]", "rows=2", "columns=3"]
    assert gentrain(*walk, "out=walk.png").status == 0
    assert gentrain(*walk, "out=walk.gif").status == 0
    added = gentrain("arithmetic", f"ckpt={run}", f"plus=[{SEVEN},{TWO}]", f"minus=[{SEVEN}]", "out=sum.png")
    assert added.status == 0, added.err
    assert f'"{SEVEN}" + "{TWO}" - "{SEVEN}"' in added.out
    assert Path("sum.png").is_file()
    crossed = gentrain("cross", f"ckpt={run}", "parents=[0,1]", "children=2", "out=x.png")
    assert crossed.status == 0, crossed.err


def test_the_sum_is_that_of_vectors(run: Path) -> None:
    """a + b - a has the images of b, of the same latents."""
    import torch

    from gentrain.commands.given import tokens_in

    model = package.load(run)
    y = torch.stack([tokens_in("caption", text, model.spec) for text in (SEVEN, TWO)])
    a, b = model.conditions_to_mixtures(y)  # type: ignore[operator]
    z = model.prior_draws(3)  # type: ignore[operator]
    mixed = model.mixed_to_images(z, (a + b - a).expand(3, -1))  # type: ignore[operator]
    plain = model.latents_to_images(z, condition=y[1])  # type: ignore[operator]
    assert (mixed.int() - plain.int()).abs().max() <= 1
    assert not torch.equal(a, b)


def test_what_is_measured_is_kept(
    gentrain: Callable[..., Ended], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "RECIPE", Recipe(widths=(8, 8), steps=60))
    done = gentrain("eval", f"ckpt={run}", "metrics=[captions]", "n=60")
    assert done.status == 0, done.err
    found = json.loads((run / "eval_captions_60.json").read_text())
    for whose in ("seen", "unseen"):
        for fact in ("above", "below", "all"):
            key = f"{whose}_{fact}"
            assert found[f"{key}_images"] == 60
            assert found[f"{key}_score"] == pytest.approx(found[key] - found[f"{key}_shuffled"])
            assert f"{found[key]:.4f}" in done.out
    assert found["values"]["above"] == sorted(found["values"]["above"])
    assert len(found["values"]["above"]) == 10
    assert found["unseen_captions"] <= 12 < found["seen_captions"]
    assert found["unseen_all_captions"] == found["unseen_captions"]
    assert f"right of 60 of {found['seen_captions']} captions" in done.out
    assert "judge   below: classifier" in done.out
    assert found["estimator"] == "60 samples, seen by classifiers of digits"


REFUSED = {
    "unknown": (["sample", "caption=a sevn above a two"], "the captions have no 'sevn'; did you mean seven"),
    "too long": (["sample", f"caption={'a ' * 10}"], "expected at most 9 words, found 10"),
    "no words": (["sample", "caption=?!"], "expected words that the captions have"),
    "the unknown word itself": (["sample", "caption=<unknown>"], "the captions have no 'unknown'"),
    "a label": (["sample", "label=3"], "label=3: expected none: the data have no labels"),
    "one to walk": (["interpolate", f"captions=[{SEVEN}]"], "expected two, captions=[FROM,TO], found 1"),
    "no list": (["interpolate", f"captions={SEVEN}"], "expected a list of captions"),
    "unknown to walk": (["interpolate", f"captions=[{SEVEN},dog]"], "captions: the captions have no 'dog'"),
    "with images": (["interpolate", f"captions=[{SEVEN},{TWO}]", "images=0,1"], "leave images"),
    "unknown to add": (["arithmetic", f"plus=[{SEVEN}]", "minus=[cat]"], "minus: the captions have no 'cat'"),
    "none to add": (["arithmetic", f"minus=[{SEVEN}]"], "plus is empty: give at least one caption"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_gets_a_line(what: str, gentrain: Callable[..., Ended], run: Path) -> None:
    args, message = REFUSED[what]
    ended = gentrain(*args, f"ckpt={run}", "out=x.png")
    assert ended.status == 2
    assert message in ended.one_line()
    assert not Path("x.png").exists()


UNTRAINED = {
    "no captions": (["dataset=digits"], "no captions to condition on"),
    "no root": (["dataset=captions"], "dataset=captions needs dataset.root=PATH"),
    "stacked without labels": (
        ["dataset=captions", "dataset.root=.", "dataset.stacked=true"],
        "must be false",
    ),
    "no file": (["dataset=digits", "dataset.stacked=true", "dataset.held_out=no.txt"], "No such file"),
    "held out without": (["dataset=digits", "dataset.held_out=[a]"], "dataset=digits has no captions"),
}


@pytest.mark.parametrize("what", UNTRAINED)
def test_what_cannot_be_trained_on_gets_a_line(what: str, gentrain: Callable[..., Ended]) -> None:
    args, message = UNTRAINED[what]
    ended = gentrain("train", "model=text_gan", *args, "run_dir=new")
    assert ended.status == 2
    assert message in ended.one_line()
    assert not Path("new").exists()


@pytest.mark.slow
def test_from_a_shell(tmp_path: Path) -> None:
    """A folder of pictures with texts beside them: shown, trained on, drawn; a mismatch is one line."""
    (tmp_path / "album").mkdir()
    for i in range(20):
        shade = np.full((8, 8, 3), 12 * i, np.uint8)
        Image.fromarray(shade).save(tmp_path / "album" / f"{i}.png")
        (tmp_path / "album" / f"{i}.txt").write_text(f"a {'dark' if i < 10 else 'light'} square\nno {i}\n")
    args = ["train", *MODELS["text_gan"][:4], "dataset=captions", "dataset.root=album", "dataset.cache=cache"]
    args += ["dataset.facts={shade:[dark,light]}", "dataset.facts.number='no (.+)'"]
    args += ["train.steps=3", "train.batch_size=4", "run_dir=run"]
    done = run_process(*args, cwd=tmp_path)
    assert done.status == 0, done.err
    assert "captions: 3" in done.out
    assert '.png "a dark square"' in done.out
    drawn = run_process("sample", "ckpt=run", "caption=a light square", "n=2", "out=x.png", cwd=tmp_path)
    assert drawn.status == 0, drawn.err
    facts = load_checkpoint(tmp_path / "run").config.dataset.facts
    assert facts == {"shade": ["dark", "light"], "number": "no (.+)"}, "named without a plus"
    (tmp_path / "album" / "3.txt").unlink()
    ended = run_process(*args[:-1], "run_dir=other", cwd=tmp_path)
    assert ended.status == 2
    assert "3.png has no caption: there is no " in ended.one_line()
    assert not (tmp_path / "other").exists()
