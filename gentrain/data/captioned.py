"""Images with captions, as people lay them out: which captions each image has, and of which split it is."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from gentrain.data.archive import Archive, File, is_image
from gentrain.data.words import words_of
from gentrain.errors import UserError

LAYOUTS = (
    "metadata.csv or metadata.jsonl (file_name, text), NAME.txt beside NAME.png, or COCO's captions.json"
)
_METADATA = ("metadata.csv", "metadata.jsonl")
_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "validation")
_YEAR = re.compile(r"(train|val|test)\d{4}")  # of COCO's folders: train2017
# Texts that lie beside images and are no captions, in lower case, before the dot.
_NO_CAPTION = frozenset({"readme", "license", "licence", "copying", "copyright", "requirements", "classes"})


@dataclass
class Captioned:
    """What was found.

    captions: {image: its captions' words} by split, in the order of the images' names; problems: what does
    not match, each a line; others: files that are neither images nor captions.
    """

    captions: dict[str, dict[File, list[list[str]]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def sorted_out(archive: Archive, inside: str, column: str) -> Captioned:
    """Which captions each image has.

    Args:
        archive: the files.
        inside: only what lies in this folder counts; empty: all.
        column: what the text is called in metadata files.

    Raises:
        UserError: no image, no captions, captions of two layouts, or a file of captions that cannot be read.
    """
    prefix = f"{inside.strip('/')}/" if inside.strip("/") else ""
    files = [file for file in archive.files if file.name.startswith(prefix)]
    images = {file.name: file for file in files if is_image(file.name)}
    where = archive.path(prefix.rstrip("/")) if prefix else archive.typed
    if not images:
        typed = f"dataset.inside={inside}: " if prefix else ""
        raise UserError(f"{typed}{where} holds no image (.png, .jpg, ...); expected images with {LAYOUTS}")
    texts = {file.name: file for file in files if file.name not in images}
    kinds = {
        "metadata": [name for name in texts if PurePosixPath(name).name.lower() in _METADATA],
        "COCO": [name for name in texts if name.lower().endswith(".json")],
        "NAME.txt": _beside(texts, images),
    }
    found, source = Captioned(), Said(archive, images, column)
    for name in kinds["metadata"]:
        source.metadata(name)
    for name in kinds["COCO"]:
        source.coco(name)
    if kinds["NAME.txt"]:
        source.beside(kinds["NAME.txt"])
    if not source.layouts:
        raise UserError(f"{where} holds {len(images):,} images and no captions; expected {LAYOUTS}")
    if len(source.layouts) > 1:
        (one, a), (other, b) = list(source.layouts.items())[:2]
        raise UserError(
            f"{where} has captions as {one}, {archive.path(a)}, and as {other}, {archive.path(b)}; keep one"
        )
    used = {name for names in kinds.values() for name in names}
    found.others = [name for name in texts if name not in used]
    found.problems = source.problems
    (said_in,) = source.layouts.values()
    several = len({PurePosixPath(name).parent for name in source.files}) > 1
    for name, file in images.items():
        if name not in source.captions:
            near = _nearest(name, source.files) if several else said_in
            told = "" if "NAME.txt" in source.layouts else f" in {archive.path(near)}"
            beside = "" if told else f": there is no {archive.path(os.path.splitext(name)[0])}.txt"
            found.problems.append(f"{archive.path(name)} has no caption{told}{beside}")
            continue
        captions = [words_of(text) for text in source.captions[name]]
        if not captions or not all(captions):
            which = archive.path(source.said_in[name])
            found.problems.append(f"{archive.path(name)} has an empty caption, in {which}")
            continue
        split = source.split_of.get(name) or _split_of(name.removeprefix(prefix))
        found.captions.setdefault(split or "", {})[file] = captions
    _check_splits(archive, found)
    return found


class Said:
    """Collects captions by image.

    captions: {image's name: texts}; said_in: the file that has them; split_of: of images whose file of
    captions says it; layouts: {layout: the first file of it}; files: all of them.
    """

    def __init__(self, archive: Archive, images: Mapping[str, File], column: str) -> None:
        self.archive, self.images, self.column = archive, images, column
        self.captions: dict[str, list[str]] = {}
        self.said_in: dict[str, str] = {}
        self.split_of: dict[str, str] = {}
        self.layouts: dict[str, str] = {}
        self.files: list[str] = []
        self.problems: list[str] = []
        self._by_base: dict[str, list[str]] = {}
        for name in images:
            self._by_base.setdefault(PurePosixPath(name).name, []).append(name)

    def _add(self, layout: str, source: str, image: str | None, texts: list[str], named: str) -> None:
        self.layouts.setdefault(layout, source)
        if source not in self.files:
            self.files.append(source)
        if image is None:
            self.problems.append(f"{self.archive.path(source)} has a caption of {named}, which is not there")
            return
        self.captions.setdefault(image, []).extend(texts)
        self.said_in.setdefault(image, source)

    def _text(self, name: str) -> str:
        try:
            return self.archive.read(name).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{self.archive.path(name)} cannot be read as UTF-8: {error}; save it as UTF-8"
            ) from error

    def metadata(self, name: str) -> None:
        """Of one metadata.csv or .jsonl, whose file names begin in its folder."""
        folder = str(PurePosixPath(name).parent)
        for number, row in self._rows(name):
            lacking = [key for key in ("file_name", self.column) if key not in row]
            if lacking:
                has = ", ".join(map(str, row)) or "nothing"
                # Of a table the first line says which columns there are.
                line = 1 if name.lower().endswith(".csv") else number
                mend = (
                    "each caption needs the name of its image there"
                    if lacking[0] == "file_name"
                    else "name the column of the captions with dataset.text=COLUMN"
                )
                raise UserError(
                    f"{self.archive.path(name)}, line {line}: expected {lacking[0]}, found {has}; {mend}"
                )
            said = row[self.column]
            texts = [str(text) for text in said] if isinstance(said, list) else [str(said or "")]
            named = str(row["file_name"] or "").replace("\\", "/")
            image = str(PurePosixPath(folder) / named) if folder != "." else str(PurePosixPath(named))
            known = image if image in self.images else None
            self._add("metadata", name, known, texts, self.archive.path(image))

    def _rows(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        text = self._text(name)
        if name.lower().endswith(".csv"):
            reader = csv.DictReader(io.StringIO(text, newline=""))
            try:
                for row in reader:
                    yield reader.line_num, {key: value for key, value in row.items() if key is not None}
            except csv.Error as error:
                raise UserError(
                    f"{self.archive.path(name)}, line {reader.line_num}: {error}; mend it"
                ) from error
            return
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            row = self._json(name, line, f", line {number}")
            if not isinstance(row, dict):
                where = f"{self.archive.path(name)}, line {number}"
                raise UserError(f"{where}: expected {{...}}, found {line[:40]}")
            yield number, row

    def _json(self, name: str, text: str, where: str = "") -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.archive.path(name)}{where} is no JSON: {error}; mend it") from error

    def coco(self, name: str) -> None:
        """Of one JSON with images and annotations; one without captions, as of instances, says nothing."""
        content = self._json(name, self._text(name))
        annotations = content.get("annotations") if isinstance(content, dict) else None
        if not isinstance(annotations, list) or not isinstance(content.get("images"), list):
            if PurePosixPath(name).name.lower().startswith("captions"):
                raise UserError(
                    f"{self.archive.path(name)}: expected COCO's {{images: [...], annotations: [...]}}, "
                    "found something else"
                )
            return
        captions = [a for a in annotations if isinstance(a, dict) and "caption" in a and "image_id" in a]
        if annotations and not captions:
            return
        place = {i.get("id"): str(i.get("file_name", "")) for i in content["images"] if isinstance(i, dict)}
        base = PurePosixPath(name).name.lower()
        split = next((s for word, s in _SPLITS.items() if re.search(rf"(^|[^a-z]){word}", base)), None)
        folder = PurePosixPath(name).parent
        for annotation in captions:
            named = place.get(annotation["image_id"])
            image = None if named is None else self._found(folder, named)
            what = f"image {annotation['image_id']}" if named is None else self.archive.path(named)
            self._add("COCO", name, image, [str(annotation["caption"] or "")], what)
            if image is not None and split is not None:
                self.split_of[image] = split

    def _found(self, folder: PurePosixPath, named: str) -> str | None:
        """An image beside the JSON, below the root, or the only one of this name."""
        for candidate in (str(folder / named), str(PurePosixPath(named))):
            if candidate in self.images:
                return candidate
        same = self._by_base.get(PurePosixPath(named).name, [])
        return same[0] if len(same) == 1 else None

    def beside(self, names: list[str]) -> None:
        """Of NAME.txt beside NAME.png, every line that is not empty a caption."""
        stems = {os.path.splitext(image)[0]: image for image in self.images}
        for name in names:
            stem = os.path.splitext(name)[0]
            texts = [line for line in self._text(name).splitlines() if line.strip()]
            self._add(
                "NAME.txt", name, stems.get(stem), texts, f"{self.archive.path(stem)}.png (or .jpg, ...)"
            )


def _beside(texts: Mapping[str, File], images: Mapping[str, File]) -> list[str]:
    """The .txt that are captions: all but those that are called like other texts, if any has an image."""
    stems = {os.path.splitext(image)[0] for image in images}
    found = [name for name in texts if name.lower().endswith(".txt")]
    if not any(os.path.splitext(name)[0] in stems for name in found):
        return []
    words = {name: re.split(r"[^a-z]", PurePosixPath(name).name.lower())[0] for name in found}
    return [n for n in found if os.path.splitext(n)[0] in stems or words[n] not in _NO_CAPTION]


def _nearest(image: str, files: list[str]) -> str:
    """The file of captions that lies nearest above an image, or the first."""
    above = [file for file in files if image.startswith(file.rpartition("/")[0])]
    return max(above, key=lambda file: len(file.rpartition("/")[0]), default=files[0])


def _split_of(name: str) -> str | None:
    """By the first folder that is called like a split."""
    for folder in name.lower().split("/")[:-1]:
        year = _YEAR.fullmatch(folder)
        if folder in _SPLITS or year:
            return _SPLITS[year.group(1) if year else folder]
    return None


def _check_splits(archive: Archive, found: Captioned) -> None:
    """All images are of splits, train among them, or none is: then all are `train`.

    Raises:
        UserError: no image has a caption, one is beside the splits, or there is no train.
    """
    if not found.captions:
        raise UserError(f"{archive.typed}: {found.problems[0]}, and no other image has one")
    if set(found.captions) == {""}:
        found.captions = {"train": found.captions[""]}
        return
    if "" in found.captions:
        stray = next(iter(found.captions[""]))
        raise UserError(
            f"{archive.path(stray.name)} lies beside folders that are called like parts (train, test, ...); "
            "move it into one of them"
        )
    if "train" not in found.captions:
        there = ", ".join(found.captions)
        raise UserError(f"{archive.typed} has images of {there} and none of train; add a train/")
