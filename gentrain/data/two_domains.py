"""Images of two domains, A and B, as people lay them out: where each file belongs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gentrain.data.archive import Archive, File, is_image
from gentrain.errors import UserError

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "validation")
LAYOUTS = "A/ and B/ with or without train/ and test/, train/A/ and train/B/, or trainA/ and trainB/"


@dataclass(frozen=True)
class Domains:
    """The files of an archive by split and domain.

    files: {split: {"A" or "B": {name without its ending: file}}}; others: names of files that are no images.
    """

    files: Mapping[str, Mapping[str, Mapping[str, File]]]
    others: list[str]


def sorted_out(archive: Archive, names: tuple[str, str]) -> Domains | None:
    """Which images are of which split and domain; None where no folder has a domain's name.

    Args:
        archive: the files.
        names: what the folders of A and of B are called.

    Raises:
        UserError: no image, an image beside the domains' folders, a name twice, or a domain without images.
    """
    images = [file for file in archive.files if is_image(file.name)]
    others = [file.name for file in archive.files if not is_image(file.name)]
    if not images:
        raise UserError(f"{archive.typed} holds no image (.png, .jpg, ...); expected {LAYOUTS}")
    placed = [(file, _place(file.name, names)) for file in images]
    if all(place is None for _, place in placed):
        return None
    files: dict[str, dict[str, dict[str, File]]] = {}
    for file, place in placed:
        if place is None:
            raise UserError(
                f"{archive.path(file.name)} lies beside the folders of the domains {names[0]} and "
                f"{names[1]}; move it into one of them, or remove it"
            )
        split, domain, name = place
        known = files.setdefault(split, {"A": {}, "B": {}})[domain]
        if name in known:
            raise UserError(
                f"{archive.path(known[name].name)} and {archive.path(file.name)} have one name; rename one"
            )
        known[name] = file
    for split, domains in files.items():
        for domain, folder in zip(("A", "B"), names, strict=True):
            if not domains[domain]:
                raise UserError(
                    f"{archive.typed} has no image of domain {folder} in {split}; expected {LAYOUTS}"
                )
    if "train" not in files:
        raise UserError(f"{archive.typed} has no train/; expected {LAYOUTS}")
    in_order = (split for split in ("train", "validation", "test") if split in files)
    return Domains({split: files[split] for split in in_order}, others)


def _place(name: str, names: tuple[str, str]) -> tuple[str, str, str] | None:
    """(split, domain, name without its ending) of a file by its folders; None: no domain."""
    folders, _, last = name.rpartition("/")
    parts = folders.split("/") if folders else []
    split: str | None = None
    domain: str | None = None
    while parts and (split is None or domain is None):
        top = parts[0]
        found = _both(top, names)
        if found is not None and split is None and domain is None:
            split, domain = found
        elif domain is None and top in names:
            domain = "AB"[names.index(top)]
        elif split is None and top.lower() in _SPLITS:
            split = _SPLITS[top.lower()]
        else:
            break
        parts.pop(0)
    if domain is None:
        return None
    return split or "train", domain, "/".join([*parts, os.path.splitext(last)[0]])


def _both(folder: str, names: tuple[str, str]) -> tuple[str, str] | None:
    """(split, domain) of a folder such as trainA."""
    for word, split in _SPLITS.items():
        for domain, name in zip(("A", "B"), names, strict=True):
            if folder.lower() == word + name.lower():
                return split, domain
    return None
