"""Captions in every layout that people have, their words, what is held out, and what does not match."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from waves import written

from gentrain.data.batches import Batches, images_at
from gentrain.data.captions import Captions
from gentrain.data.digits import Digits
from gentrain.data.source import Data, Split
from gentrain.data.stacked import thickness_and_slant
from gentrain.data.words import UNKNOWN, holds, patterns_of, said, text_of, with_words_of, words_of
from gentrain.errors import UserError

CPU = torch.device("cpu")
Load = Callable[..., Data]
COLOURS = ("red", "green", "blue")


def png(value: int, size: tuple[int, int] = (4, 3)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def images(place: str, numbers: range) -> dict[str, bytes]:
    """Image i is of value i."""
    return {f"{place}{i}.png": png(i) for i in numbers}


def told(i: int) -> str:
    """What image i is told: its number in words."""
    return f"A {COLOURS[i % 3]} thing, no. {i}!"


def csv(numbers: range) -> bytes:
    rows = [f'{i}.png,"{told(i)}"' for i in numbers]
    return "\n".join(["file_name,text", *rows]).encode("utf-8-sig")


def jsonl(numbers: range, place: str = "") -> bytes:
    rows = [{"file_name": f"{place}{i}.png", "text": told(i)} for i in numbers]
    return "\n".join(map(json.dumps, rows)).encode()


def coco(numbers: range, *more: str) -> bytes:
    """A caption for each, and for each of `more` another that begins with it."""
    pictures = [{"id": 10 + i, "file_name": f"{i}.png"} for i in numbers]
    notes = [{"image_id": 10 + i, "caption": told(i)} for i in numbers]
    notes += [{"image_id": 10 + i, "caption": f"{word} {told(i)}"} for word in more for i in numbers]
    return json.dumps({"images": pictures, "annotations": notes}).encode()


def texts(place: str, numbers: range) -> dict[str, bytes]:
    return {f"{place}{i}.txt": told(i).encode() for i in numbers}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def call(files: Mapping[str, bytes], zipped: bool = False, **more: Any) -> Data:
        root = written(tmp_path / ("x.zip" if zipped else "x"), files)
        plain = {
            "text": "text", "inside": "", "min_count": 1, "facts": {}, "image_size": None, "channels": 3,
            "on_error": "raise", "test_fraction": 0.3, "cache": str(tmp_path / "cache"), "validation": 0,
            "split_seed": 0, "binarize": "none", "flip": False, "crop": 0, "source": None, "paired": True,
            "background": None, "stacked": False, "held_out": None, "license": None,
        }  # fmt: skip
        return Captions(root=str(root), **plain | more).load()

    return call


TRAIN, TEST = range(6), range(6, 9)
LAYOUTS = {
    "metadata.csv": images("", range(9)) | {"metadata.csv": csv(range(9))},
    "metadata.csv, split": {
        **images("train/", TRAIN), "train/metadata.csv": csv(TRAIN),
        **images("test/", TEST), "test/metadata.csv": csv(TEST),
    },
    "metadata.jsonl above": {
        **images("train/", TRAIN), **images("Test/", TEST),
        "metadata.jsonl": jsonl(TRAIN, "train/") + b"\n\n" + jsonl(TEST, "Test/"),
    },
    "NAME.txt": images("", range(9)) | texts("", range(9)) | {"README.txt": b"of mine"},
    "NAME.txt, split": {
        **images("train/", TRAIN), **texts("train/", TRAIN), **images("val/", range(9, 12)),
        **texts("val/", range(9, 12)), **images("test/", TEST), **texts("test/", TEST),
    },
    "COCO": {
        **images("train2017/", TRAIN), **images("test2017/", TEST),
        "annotations/captions_train2017.json": coco(TRAIN),
        "annotations/captions_test2017.json": coco(TEST),
        "annotations/instances_train2017.json": b'{"images": [], "annotations": [{"bbox": []}]}',
    },
}  # fmt: skip


def captions_of(split: Split, data: Data) -> list[str]:
    assert data.spec.vocabulary is not None
    return [text_of(row.tolist(), data.spec.vocabulary) for row in split.parts["caption"]]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_image_has_its_caption(layout: str, zipped: bool, load: Load) -> None:
    data = load(LAYOUTS[layout], zipped, validation=0.2 if "val/9.png" in LAYOUTS[layout] else 0)
    seen = []
    for split in filter(None, (data.train, data.validation, data.test)):
        for image, caption in zip(split.images, captions_of(split, data), strict=True):
            i = int(image[0, 0, 0])
            seen.append(i)
            known = str(i) if split is data.train else UNKNOWN
            assert caption in {f"a {COLOURS[i % 3]} thing no {word}" for word in (str(i), known)}
    assert sorted(seen) == sorted(int(n.split("/")[-1][:-4]) for n in LAYOUTS[layout] if n.endswith(".png"))
    if "split" in layout or layout == "COCO":
        assert sorted(data.test.images[:, 0, 0, 0].tolist()) == list(TEST)
    numbers = {str(int(image[0, 0, 0])) for image in data.train.images}
    words = {"a", "thing", "no"} | {COLOURS[int(n) % 3] for n in numbers}
    assert data.spec.vocabulary == (*sorted(words | numbers), UNKNOWN), "of the training part alone"
    assert data.spec.caption_length == 5
    assert any("captions: " in line and "at most 5 in one, e.g. " in line for line in data.notes)


def test_words() -> None:
    assert words_of("Woman firefighter, dark-skin (it\u2019s)  #1!") == [
        *("woman", "firefighter", "dark-skin", "it's", "1"),
    ]
    assert words_of(" ... ") == []
    assert UNKNOWN not in words_of(UNKNOWN), "nobody can type it"


def test_several_captions_are_served_in_turn(load: Load) -> None:
    """A pure function of (seed, epoch, image): every caption as often as another; the first in evaluation."""
    files = {"captions_train.json": coco(TRAIN, "b", "c"), "captions_test.json": coco(TEST, "b")}
    data = load(images("train/", TRAIN) | images("test/", TEST) | files)
    assert data.train.parts["caption"].shape == (6, 3, 6)

    def firsts(batches: Batches, steps: range) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for step in steps:
            batch = batches.at(step)
            assert batch.caption is not None
            assert batch.caption.shape == (2, 6)
            for x, y in zip(batch.x, batch.caption, strict=True):
                found.setdefault(int(x[0, 0, 0]), []).append(data.spec.vocabulary[int(y[0]) - 1])  # type: ignore[index]
        return found

    made = {"batch_size": 2, "device": CPU}
    six_epochs = firsts(Batches(data, data.train, seed=3, **made), range(18))
    for words in six_epochs.values():
        assert sorted(words[:3]) == ["a", "b", "c"]
        assert words[:3] == words[3:]
    assert len({words[0] for words in six_epochs.values()}) > 1, "not all begin with the same"
    late = firsts(Batches(data, data.train, seed=3, **made), range(9, 12))
    assert late == {i: [words[3]] for i, words in six_epochs.items()}, "begun in the middle it is the same"
    assert firsts(Batches(data, data.train, seed=4, **made), range(18)) != six_epochs
    shown = images_at(data, data.train, range(6), 0).caption
    assert shown is not None
    assert {data.spec.vocabulary[int(y[0]) - 1] for y in shown} == {"a"}  # type: ignore[index]
    whole = [Batches(data, data.train, seed=3, rank=r, world=2, **made).at(7).caption for r in (0, 1)]
    assert torch.equal(torch.cat(whole), Batches(data, data.train, seed=3, **made).at(7).caption)  # type: ignore[arg-type]


def test_combinations_are_held_out(load: Load, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("# colours\n\nred No 3   # and this one\n")
    files = LAYOUTS["NAME.txt, split"]
    for held_out in (str(tmp_path / "out.txt"), ["red no 3"]):
        data = load(files, held_out=held_out)
        assert sorted(data.train.images[:, 0, 0, 0].tolist()) == [0, 1, 2, 4, 5]
        assert sorted(data.test.images[:, 0, 0, 0].tolist()) == [3, 6, 7, 8]
        assert data.held_out == ("red no 3",)
        assert "3" not in data.spec.vocabulary  # type: ignore[operator]
    with pytest.raises(UserError, match="leaves no image to train on"):
        load(files, held_out=["thing"])
    with pytest.raises(UserError, match=r"dataset\.held_out=.*none.txt: No such file.*combination of words"):
        load(files, held_out=str(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="expected combinations of words"):
        load(files, held_out=["#"])
    assert holds(["a", "thick", "seven", "above", "a", "two"], "seven above two")
    assert not holds(["a", "two", "above", "a", "seven"], "seven above two"), "in this order"


def test_facts() -> None:
    tone = patterns_of({"tone": ["light skin", "medium-light skin"]})["tone"]
    assert said("man medium-light skin", tone) == "medium-light skin"
    assert said("man light skin", tone) == "light skin"
    assert said("man", tone) is said("light skin and medium-light skin", tone) is None
    for wrong in ({"x": ["one"]}, {"x": "no group"}, {"x": "("}, {"x": 3}):
        with pytest.raises(ValueError, match=r"dataset\.facts\.x"):
            patterns_of(wrong)


GOOD = LAYOUTS["NAME.txt, split"]
WRONG = {
    "an image without caption": (
        GOOD | {"train/77.png": png(77)}, r"train/77\.png has no caption.*train/77\.txt",
    ),
    "a caption without image": (
        GOOD | {"train/77.txt": b"a"}, r"train/77\.txt has a caption of .*train/77\.png",
    ),
    "an empty caption": (
        GOOD | {"train/77.png": png(77), "train/77.txt": b" \n"},
        r"77\.png has an empty caption, in .*77\.txt",
    ),
    "metadata without an image": (
        images("", range(5)) | {"metadata.csv": csv(range(6))}, r"metadata\.csv has a caption of .*5\.png",
    ),
    "an image that metadata lacks": (
        images("", range(6)) | {"metadata.csv": csv(range(5))}, r"5\.png has no caption in .*metadata\.csv",
    ),
    "a broken image": (GOOD | {"train/1.png": b"no"}, r"train/1\.png cannot be decoded"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_match_is_named_or_counted(what: str, load: Load) -> None:
    files, message = WRONG[what]
    with pytest.raises(UserError, match=message) as failed:
        load(files)
    assert "dataset.on_error=skip" in str(failed.value)
    assert "\n" not in str(failed.value)
    data = load(files, on_error="skip")
    assert any(line.startswith("skipped 1: ") for line in data.notes)
    assert 77 not in data.train.images[:, 0, 0, 0]


HOPELESS = {
    "no captions": (images("", range(4)), {}, "4 images and no captions; expected metadata.csv"),
    "no image": ({"metadata.csv": csv(range(3))}, {}, "holds no image"),
    "two layouts": (
        LAYOUTS["metadata.csv"] | texts("", range(9)), {}, r"metadata\.csv, and as NAME\.txt, .*keep one",
    ),
    "another column": (
        images("", range(2)) | {"metadata.csv": b"file_name,label\n0.png,x"}, {},
        r"metadata\.csv, line 1: expected text, found file_name, label; .*dataset\.text=COLUMN",
    ),
    "no names of images": (
        images("", range(2)) | {"metadata.csv": b"image,text\n0.png,x"}, {},
        r"metadata\.csv, line 1: expected file_name, found image, text; each caption needs the name of its",
    ),
    "no names in a line": (
        images("", range(2)) | {"metadata.jsonl": b'{"file_name": "0.png", "text": "x"}\n{"text": "y"}'}, {},
        r"metadata\.jsonl, line 2: expected file_name, found text; each caption needs",
    ),
    "no COCO": (
        images("", range(2)) | {"captions.json": b"[]"}, {}, r"captions\.json: expected COCO's \{images: ",
    ),
    "held out that is nowhere": (
        GOOD, {"held_out": ["thing red"]}, r"dataset\.held_out: no caption has 'thing red', its words in",
    ),
    "no JSON": (images("", range(2)) | {"metadata.jsonl": b"{"}, {}, r"metadata\.jsonl, line 1 is no JSON"),
    "no UTF-8": (images("", range(2)) | {"metadata.csv": b"\xff\xfe"}, {}, "cannot be read as UTF-8"),
    "no train": (images("test/", TEST) | texts("test/", TEST), {}, "none of train"),
    "beside": (GOOD | {"7.png": png(7), "7.txt": b"x"}, {}, r"7\.png lies beside"),
    "other sizes": (GOOD | {"train/1.png": png(1, (5, 5))}, {}, r"set|bring all to one size"),
    "not there": (GOOD, {"inside": "nowhere"}, r"dataset\.inside=nowhere: .*nowhere holds no image"),
    "no word": (GOOD, {"min_count": 100}, r"dataset\.min_count=100: no word of the training captions"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOPELESS)
def test_what_cannot_be_read_is_said_in_a_line(what: str, load: Load) -> None:
    files, settings, message = HOPELESS[what]
    with pytest.raises(UserError, match=message) as failed:
        load(files, **settings)
    assert "\n" not in str(failed.value)


def test_phrases_that_no_caption_has_are_warned_of(load: Load) -> None:
    with pytest.warns(
        UserWarning, match=r"facts\.hue: training captions have no words for 'dark teal', 'mauve'"
    ):
        load(GOOD, facts={"hue": ["red", "mauve", "dark teal", "green"], "what": "(thing)"})


def test_a_folder_inside_another_column_and_rare_words(load: Load) -> None:
    files = {f"a/{name}": content for name, content in LAYOUTS["metadata.csv"].items()}
    files |= images("b/", range(50, 54))
    files["a/metadata.csv"] = files["a/metadata.csv"].replace(b"text", b"words")
    data = load(files, inside="a", text="words", min_count=2)
    assert not {*data.train.images[:, 0, 0, 0]} & {*range(50, 54)}
    assert not {str(i) for i in range(9)} & {*data.spec.vocabulary}  # type: ignore[misc]
    assert all(caption.endswith(UNKNOWN) for caption in captions_of(data.train, data))


def test_words_of_other_data_are_numbered_as_in_training(load: Load) -> None:
    data = load(LAYOUTS["NAME.txt, split"])
    texts_then = captions_of(data.train, data)
    longer = data.spec.vocabulary, 7
    other = with_words_of(
        data, data.spec.__class__(data.spec.shape, vocabulary=("zebra", *longer[0]), caption_length=7)
    )  # type: ignore[misc]
    assert captions_of(other.train, other) == texts_then
    fewer = data.spec.__class__(data.spec.shape, vocabulary=("thing", UNKNOWN), caption_length=3)
    cut = with_words_of(data, fewer)
    assert set(captions_of(cut.train, cut)) == {f"{UNKNOWN} {UNKNOWN} thing"}


def digits(tmp_path: Path, **settings: Any) -> Data:
    plain = {"root": None, "cache": str(tmp_path), "validation": 100, "split_seed": 0, "binarize": "none"}
    rest = {"flip": False, "crop": 0, "source": None, "paired": True, "background": None}
    rest |= {"stacked": True, "held_out": None, "license": None}
    return Digits(**plain | rest | settings).load()


def test_two_images_become_one_with_captions(tmp_path: Path) -> None:
    data, single = digits(tmp_path), digits(tmp_path, stacked=False)
    label = {x.tobytes(): int(y) for s in (single.train, single.validation, single.test)
             for x, y in zip(s.images, s.labels, strict=True)}  # type: ignore[union-attr,arg-type] # fmt: skip
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert data.spec.shape == (1, 16, 8)
    assert data.spec.classes is None
    assert data.train.parts["caption"].shape[1] == 2
    tested = {x.tobytes() for x in single.test.images}
    for split in (data.train, data.test):
        for x, both in zip(split.images[:200], split.parts["caption"], strict=False):
            for row in both:
                text = text_of(row.tolist(), data.spec.vocabulary)  # type: ignore[arg-type]
                wanted = [names[label[part.tobytes()]] for part in (x[:, :8], x[:, 8:])]
                assert [said(text, data.facts[fact]) for fact in ("above", "below")] == wanted
            assert all((part.tobytes() in tested) == (split is data.test) for part in (x[:, :8], x[:, 8:]))
    first, second = (
        text_of(row.tolist(), data.spec.vocabulary).split() for row in data.train.parts["caption"][0]
    )  # type: ignore[arg-type]
    assert ("above" in first, "below" in second) == (True, True)
    ink = np.array([thickness_and_slant(x[None, :, :8])[0, 0] for x in data.train.images])
    said_thick = np.array(["thick" in t.split("above")[0] for t in captions_above(data)])
    said_thin = np.array(["thin" in t.split("above")[0] for t in captions_above(data)])
    assert abs(said_thick.mean() - 1 / 3) < 0.05
    assert ink[said_thick].mean() > ink.mean() > ink[said_thin].mean()


def captions_above(data: Data) -> list[str]:
    return [text_of(row.tolist(), data.spec.vocabulary) for row in data.train.parts["caption"][:, 0]]  # type: ignore[arg-type]


def test_pairs_are_held_out_of_training_alone(tmp_path: Path) -> None:
    data = digits(tmp_path, held_out=["seven above two"])
    for split, there in ((data.train, False), (data.validation, False), (data.test, True)):
        rows = split.parts["caption"][:, 0]  # type: ignore[union-attr]
        told_of = [text_of(row.tolist(), data.spec.vocabulary) for row in rows]  # type: ignore[arg-type]
        assert any(holds(words_of(text), "seven above two") for text in told_of) == there
        assert any(holds(words_of(text), "two above seven") for text in told_of)
    with pytest.raises(ValueError, match="has no captions"):
        digits(tmp_path, stacked=False, held_out=["seven"])


def test_slant() -> None:
    upright = np.zeros((1, 1, 9, 9), np.uint8)
    upright[..., 4] = 255
    leaning = np.flip(np.eye(9, dtype=np.uint8)[None, None] * 255, 2)
    assert thickness_and_slant(upright)[0, 1] == 0
    assert thickness_and_slant(leaning)[0, 1] == pytest.approx(1), (
        "to the right by a column for a row upwards"
    )
    assert thickness_and_slant(leaning)[0, 0] == thickness_and_slant(upright)[0, 0]


@pytest.mark.slow
def test_the_emoji_have_captions(real_data: Path, load: Load, tmp_path: Path) -> None:
    plain = {
        "text": "text", "inside": "twemoji", "min_count": 1, "image_size": 8, "channels": 3,
        "on_error": "raise", "test_fraction": 0.3, "validation": 0, "cache": str(tmp_path),
        "split_seed": 0, "binarize": "none",
        "flip": False, "crop": 0, "source": None, "paired": True, "background": None, "stacked": False,
        "held_out": ["woman firefighter dark"], "license": None, "facts": {"gender": ["man", "woman"]},
    }  # fmt: skip
    data = Captions(root=str(real_data / "emoji.zip"), **plain).load()
    assert (len(data.train), len(data.test)) == (3160, 486)
    assert "woman firefighter dark skin tone" in captions_of(data.test, data)
