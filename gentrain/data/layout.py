"""How a user's images or recordings are arranged: splits, and class folders or none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gentrain.data.archive import Archive, File, is_image
from gentrain.errors import UserError

# Names of folders that are splits, in lower case; below `train` alone is where classes are learnt.
_SPLITS = {
    "train": "train",
    "test": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
#: Names of classes that were probably meant as splits, in lower case.
_LIKE_SPLITS = frozenset({*_SPLITS, "training", "testing"})


@dataclass(frozen=True)
class Kind:
    """What files are looked for.

    word: what one is called; endings: examples of their names' ends; is_one: by a file's name; mixed: whether
    they may lie at several depths, and then have no labels.
    """

    word: str
    endings: str
    is_one: Callable[[str], bool]
    mixed: bool = False


IMAGES = Kind("image", ".png, .jpg, ...", is_image)


@dataclass(frozen=True)
class Layout:
    """How the images (or recordings) of an archive are arranged.

    splits: the image files of `train` and, where there are any, of `validation` and `test`; classes: number
    of each class by name, in order, empty without labels; others: names of the files that are not images;
    depth: folders above a class; notes: lines for the user about what may not be meant.
    """

    splits: dict[str, list[File]]
    classes: dict[str, int]
    others: list[str]
    depth: int
    notes: list[str]

    def label(self, name: str) -> int:
        """The number of the class of a file."""
        return self.classes[name.split("/")[self.depth]]

    def below_class(self, name: str) -> str:
        """The path of a file below its class folder, or below its split without classes."""
        return "/".join(name.split("/")[self.depth + bool(self.classes) :])


def arrange(archive: Archive, kind: Kind = IMAGES) -> Layout:
    """Find splits and classes.

    Raises:
        UserError: no image, an empty folder, images at different depths or too deep, a class without an image
            or one that `train/` does not have, a split twice, or something beside the splits; names the path.
    """
    images = [file for file in archive.files if kind.is_one(file.name)]
    others = [file.name for file in archive.files if not kind.is_one(file.name)]
    if not images:
        found = f"{len(others):,} other files, e.g. {others[0]}" if others else "nothing"
        raise UserError(f"{archive.typed} holds no {kind.word} ({kind.endings}); found {found}")
    if archive.empty:
        raise UserError(f"{archive.path(archive.empty[0])} is empty; put {kind.word}s into it or remove it")
    tops = {file.name.split("/")[0] for file in images if "/" in file.name}
    if _are_splits(tops):
        depth, splits = 1, _split(archive, images, tops)
    else:
        depth, splits = 0, {"train": images}
    notes = []
    if kind.mixed and _is_mixed(images, depth):
        classes, notes = {}, [f"{kind.word}s lie at several depths: they have no labels"]
    else:
        classes = _classes(archive, splits, depth, kind)
    if classes:
        _refuse_without_images(archive, images, others, depth, kind)
    return Layout(splits, classes, others, depth, [*notes, *_doubts(classes)])


def _is_mixed(files: list[File], depth: int) -> bool:
    """Whether files lie elsewhere than all in class folders or all beside one another."""
    return len({file.name.count("/") - depth for file in files}) > 1 or any(
        file.name.count("/") - depth > 1 for file in files
    )


def _doubts(classes: Iterable[str]) -> list[str]:
    """At most one line: classes that are called like splits."""
    doubtful = [name for name in classes if name.lower() in _LIKE_SPLITS]
    if not doubtful:
        return []
    became = "is taken for a class" if len(doubtful) == 1 else "are taken for classes"
    return [f"{_some(doubtful)} {became}; if splits are meant, name them train/, validation/ and test/"]


def _are_splits(tops: set[str]) -> bool:
    """Whether the folders at the top are splits, rather than classes."""
    known = {top for top in tops if top.lower() in _SPLITS}
    found = {_SPLITS[top.lower()] for top in known}
    if tops and tops == known:
        return True
    # Beside other folders a single `Train` is as likely a class.
    return "train" in tops or ("train" in found and len(found) > 1)


def _split(archive: Archive, images: list[File], tops: set[str]) -> dict[str, list[File]]:
    """The images by split, in the order of the splits' names in `_SPLITS`."""
    folders: dict[str, str] = {}
    for top in sorted(tops):
        split = _SPLITS.get(top.lower())
        if split is not None and folders.setdefault(split, top) != top:
            raise UserError(
                f"{archive.typed} holds {folders[split]}/ and {top}/, but {split} can be one folder only; "
                "move all into one"
            )
    if "train" not in folders:
        found = next(iter(folders.values()))
        remedy = f", or name it with {archive.key}" if archive.root.is_dir() else ""
        raise UserError(f"{archive.path(found)} has no train/ beside it; add one{remedy}")
    split_of = {top: split for split, top in folders.items()}
    splits: dict[str, list[File]] = {
        split: [] for split in dict.fromkeys(_SPLITS.values()) if split in folders
    }
    for file in images:
        split = split_of.get(file.name.split("/")[0])
        if split is None:
            train = folders["train"]
            raise UserError(
                f"{archive.path(file.name)} lies beside {train}/: expected only {train}/, validation/ and "
                f"test/ at the top; move it below one of them, or rename {train}/ if it is a class"
            )
        splits[split].append(file)
    return splits


def _classes(archive: Archive, splits: dict[str, list[File]], depth: int, kind: Kind) -> dict[str, int]:
    """The number of each class of train by name, in order; empty without class folders."""
    labelled = {split: _labelled(archive, files, depth, kind) for split, files in splits.items()}
    train = splits["train"]
    names = sorted({file.name.split("/")[depth] for file in train}) if labelled["train"] else []
    for split, files in splits.items():
        if labelled[split] != labelled["train"]:
            raise UserError(
                f"{archive.typed}: one of train/ and {split}/ has class folders, the other has none, "
                f"e.g. {train[0].name} and {files[0].name}"
            )
        stray = next((f for f in files if names and f.name.split("/")[depth] not in names), None)
        if stray is not None:
            raise UserError(
                f"{archive.path(stray.name.rpartition('/')[0])} is a class that train/ does not have; it has "
                f"{_some(names)}"
            )
    return {name: i for i, name in enumerate(names)}


def _refuse_without_images(
    archive: Archive, images: list[File], others: list[str], depth: int, kind: Kind
) -> None:
    """Refuse a class folder whose files are all of other kinds: it would vanish.

    Raises:
        UserError: names it, and the kinds.
    """

    def folder(name: str) -> str:
        return "/".join(name.split("/")[: depth + 1])

    tops = {file.name.split("/")[0] for file in images} if depth else None
    good = {folder(file.name) for file in images}
    kinds: dict[str, Counter[str]] = {}
    for name in others:
        inside = name.count("/") > depth and (tops is None or name.split("/")[0] in tops)
        if inside and folder(name) not in good:
            kinds.setdefault(folder(name), Counter())[os.path.splitext(name)[1] or "no ending"] += 1
    if kinds:
        name, found = next(iter(kinds.items()))
        listed = ", ".join(f"{count:,} {kind}" for kind, count in found.most_common(5))
        raise UserError(
            f"{archive.path(name)} holds no {kind.word} ({kind.endings}), found {listed}; put {kind.word}s "
            "into it or remove it"
        )


def _labelled(archive: Archive, files: list[File], depth: int, kind: Kind) -> bool:
    """Whether the images below `depth` folders lie in class folders."""
    levels: dict[int, str] = {}
    for file in files:
        levels.setdefault(file.name.count("/") - depth, file.name)
    if set(levels) == {0}:
        return False
    if set(levels) == {1}:
        return True
    deepest = max(levels)
    if deepest == 1:
        raise UserError(
            f"{archive.path(levels[0])} lies beside class folders; "
            f"expected every {kind.word} in CLASS/{kind.word.upper()} or none"
        )
    folder = archive.path(levels[deepest]).rsplit("/", 2)[0]
    remedy = (
        f"name the folder above the class folders ({archive.key}={folder}?) or "
        if archive.root.is_dir()
        else ""
    )
    raise UserError(
        f"{archive.path(levels[deepest])} lies {deepest} folders deep; expected CLASS/{kind.word.upper()}: "
        f"{remedy}move the {kind.word}s up"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
