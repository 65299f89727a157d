"""`gentrain quiz`: what the page holds, what it refuses, and answers put together."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser import decoded, fetched
from PIL import Image
from running import Ended

from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.metrics.proportion import wilson
from gentrain.pages import page as pages


def part(page: str, name: str) -> Any:
    """The JSON that the page has as `name`."""
    (found,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def tiles(page: str) -> np.ndarray:
    """The pictures on the sheet, by their numbers: uint8 [N, H, W] or [N, H, W, 3]."""
    (uri,) = re.findall(r'<img id="sheet" hidden alt="" src="([^"]+)">', page)
    sheet = np.asarray(Image.open(io.BytesIO(decoded(uri))))
    about = part(page, "page")
    height, width, columns = about["height"], about["width"], about["columns"]
    return np.stack(
        [
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
            for row in range(len(sheet) // height)
            for column in range(columns)
        ]
    )


def digits() -> tuple[set[bytes], set[bytes]]:
    """The training and the test images as they are shown."""
    data = build_source(compose_train(["dataset=digits"]).dataset).load()
    shown = [np.rint(split.images[:, 0] * (255 / 16)).astype(np.uint8) for split in (data.train, data.test)]
    return ({image.tobytes() for image in shown[0]}, {image.tobytes() for image in shown[1]})


def test_what_a_page_shows(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("quiz", f"ckpt={trained.mlp}", "n=30", "practice=5", "out=quiz.html")
    assert done.status == 0, done.err
    page = Path("quiz.html").read_text()
    assert fetched(page) == []
    about, found = part(page, "about"), tiles(page)
    pairs = about["pairs"]
    assert (len(pairs), about["practice"]) == (35, 5)
    train, test = digits()
    real, fake = [], []
    for pair in pairs:
        assert [near is not None for near in pair["near"]] == [side == pair["first"] for side in (0, 1)]
        fake.append(found[pair["tiles"][pair["first"]]].tobytes())
        real.append(found[pair["tiles"][1 - pair["first"]]].tobytes())
        number, difference = pair["near"][pair["first"]]
        near = found[number]
        assert near.tobytes() in train
        own = np.frombuffer(fake[-1], np.uint8).reshape(near.shape)
        assert np.sqrt(np.mean((own.astype(float) - near) ** 2)) == pytest.approx(difference, abs=1)
    assert set(real) <= test, "real pictures are test images"
    assert not set(fake) & (train | test)
    assert gentrain("sample", f"ckpt={trained.mlp}", "n=35", "out=same.npz").status == 0
    drawn = np.rint(np.load("same.npz")["images"][:, 0] * (255 / 16)).astype(np.uint8)
    assert [image.tobytes() for image in drawn] == fake, "every sample in turn: none was picked"
    # Neither the place on the sheet nor the side tells: both kinds are everywhere.
    places = [(pair["tiles"][0], pair["tiles"][1]) for pair in pairs]
    assert len({number for both in places for number in both}) == 70
    assert 5 < sum(pair["first"] for pair in pairs) < 30
    assert 5 < sum(pair["single"] == pair["first"] for pair in pairs) < 30
    order = [pair["tiles"][pair["first"]] < pair["tiles"][1 - pair["first"]] for pair in pairs]
    assert 5 < sum(order) < 30


def test_the_same_seed_gives_the_same_page(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    first = gentrain("quiz", f"ckpt={trained.mlp}", "n=3")
    assert first.status == 0, first.err
    again = gentrain("quiz", f"ckpt={trained.mlp}", "n=3")
    assert "unchanged" in again.out
    other = gentrain("quiz", f"ckpt={trained.mlp}", "n=3", "seed=1")
    assert "quiz-2.html" in other.out
    assert (
        part((trained.mlp / "quiz.html").read_text(), "about")["quiz"]
        != (part((trained.mlp / "quiz-2.html").read_text(), "about")["quiz"])
    )


def test_two_models_against_each_other(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("quiz", f"ckpt=['{trained.spaced}',{trained.conv}]", "n=4")
    assert done.status == 0, done.err
    about = part(Path("quiz.html").read_text(), "about")
    assert about["versus"]
    assert (len(about["pairs"]), about["practice"]) == (4, 0)
    assert (about["first"], about["second"]) == ("vae_mlp on digits, step 20", "vae on digits, step 20")
    assert all(None not in pair["near"] for pair in about["pairs"])


def pictures(folder: str, sizes: list[tuple[int, int]], value: int) -> None:
    Path(folder).mkdir()
    for number, size in enumerate(sizes):
        shown = np.full((*size, 3), value + number, np.uint8)
        Image.fromarray(shown).save(f"{folder}/{number}.png")


def test_pictures_of_ones_own(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """Of any size: all are brought to the smallest, and none is enlarged."""
    pictures("real", [(40, 60), (30, 30), (24, 50)], 10)
    pictures("fake", [(64, 64), (32, 20), (40, 40), (41, 41)], 100)
    done = gentrain("quiz", "real=real", "fake=fake", "n=3", "practice=0", "seed=2")
    assert done.status == 0, done.err
    page = Path("quiz.html").read_text()
    about, found = part(page, "about"), tiles(page)
    side = part(page, "page")["height"]
    assert side == part(page, "page")["width"]
    for pair in about["pairs"]:
        first, second = (found[pair["tiles"][side_]] for side_ in (pair["first"], 1 - pair["first"]))
        assert first.min() >= 100 > second.max()
        assert pair["near"] == [None, None]
    small = [number for number in (1, 2, 3) if (found == 100 + number).all((1, 2, 3)).any()]
    assert side == (20 if 1 in small else 24)


def answers(**changed: Any) -> dict[str, Any]:
    right = changed.pop("rights", [True, True, False])
    return {
        "format": "gentrain quiz",
        "version": 1,
        "quiz": "abc",
        "person": "1",
        "first": "vae on digits, step 20",
        "second": "test images",
        "versus": False,
        "n": len(right),
        "answers": [{"pair": i, "right": one, "seconds": 1.5} for i, one in enumerate(right)],
        **changed,
    }


def test_people_are_put_together(gentrain: Callable[..., Ended], workplace: Path) -> None:
    Path("a.json").write_text(json.dumps(answers()))
    Path("b c.json").write_text(json.dumps(answers(person="2", rights=[True, False, False])))
    done = gentrain("quiz", "results=[a.json,b c.json]", "out=all.json")
    assert done.status == 0, done.err
    low, high = (100 * end for end in wilson(3, 6))
    assert f"all     3 of 6 right, 50.0 % ({low:.1f} to {high:.1f})" in done.out
    assert "b c.json: 1 of 3 right" in done.out
    assert "50.0 +- 16.7 % over people" in done.out
    assert "hardest question 3: 0 of 2 right" in done.out
    kept = json.loads(Path("all.json").read_text())
    assert kept["right_by_question"] == [2, 1, 0]
    assert kept["all"]["low"] == wilson(3, 6)[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps(answers(quiz="xyz", person="2")), "another quiz"),
        (json.dumps(answers()), "same person"),
        ("{", "not JSON"),
        ("[1]", "no answers"),
        (json.dumps(answers(version=2, person="2")), "version 2"),
        (json.dumps(answers(person=None)), "damaged"),
        (json.dumps(answers(person="2", n=4)), "4 answers"),
        (json.dumps(answers(person="2", answers=[{"pair": 0, "right": True, "seconds": 1}] * 3)), "twice"),
        (json.dumps(answers(person="2", answers=[{"pair": 0, "right": 1, "seconds": 1}] * 3)), "damaged"),
    ],
)
def test_what_holds_no_answers(
    gentrain: Callable[..., Ended], workplace: Path, text: str, reason: str
) -> None:
    Path("a.json").write_text(json.dumps(answers()))
    Path("b.json").write_text(text)
    done = gentrain("quiz", "results=[a.json,b.json]", "out=all.json")
    assert done.status == 2
    assert reason in done.one_line()
    assert "b.json" in done.one_line()
    assert not Path("all.json").exists()


def test_what_is_refused(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit status 2, nothing written."""
    pictures("real", [(9, 9)] * 3, 10)
    pictures("fake", [(9, 9)] * 3, 100)
    Path("fake/2.png").write_bytes(b"no picture")
    Path("empty").mkdir()
    here = sorted(map(str, Path().rglob("*")))

    def refused(*arguments: str) -> str:
        done = gentrain("quiz", *arguments)
        assert done.status == 2, done.out
        assert sorted(map(str, Path().rglob("*"))) == here
        return done.one_line()

    assert "at most n=293" in refused(f"ckpt={trained.mlp}", "n=294")
    assert "297 test images" in refused(f"ckpt={trained.mlp}", "n=298", "practice=0")
    assert "n: expected at least 1" in refused("n=0")
    assert "show" in refused("show=triples")
    assert "found 3" in refused(f"ckpt=[{trained.mlp},{trained.conv},{trained.mlp}]")
    assert "fake=FOLDER" in refused("real=real")
    assert "give one of them" in refused("real=real", "fake=fake", f"ckpt={trained.mlp}")
    assert "holds 3 images, and 5 are wanted" in refused("real=real", "fake=fake", "n=5", "practice=0")
    assert "holds 0 images" in refused("real=empty", "fake=real", "n=1", "practice=0")
    assert "cannot be read" in refused("real=real", "fake=fake", "n=3", "practice=0")
    assert "no such folder" in refused("real=real", "fake=nowhere")
    assert "ends in .html" in refused(f"ckpt={trained.mlp}", "out=quiz.png")
    assert "gone.json cannot be read" in refused("results=gone.json")
    monkeypatch.setattr(pages, "LARGEST", 10_000)
    assert "more than 0 MB; n=" in refused(f"ckpt={trained.mlp}", "out=quiz.html")


def test_a_model_that_draws_nothing(gentrain: Callable[..., Ended], workplace: Path) -> None:
    small = ["model=ae_linear", "dataset=digits", "train.steps=1", "train.batch_size=4", "run_dir=ae"]
    assert gentrain("train", *small).status == 0
    done = gentrain("quiz", "ckpt=ae", "out=quiz.html")
    assert done.status == 2
    assert "quiz: ae_linear cannot do this" in done.one_line()
    assert not Path("quiz.html").exists()
