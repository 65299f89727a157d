"""How a user's images are arranged: splits, and class folders or none."""

from __future__ import annotations

from dataclasses import dataclass

from gentrain.data.archive import Archive, File, is_image
from gentrain.errors import UserError


@dataclass(frozen=True)
class Layout:
    """How the images of an archive are arranged.

    splits: the image files of `train` and, where there is one, `test`; classes: number of each class by
    name, in order, empty without labels; others: names of the files that are not images; depth: folders
    above a class.
    """

    splits: dict[str, list[File]]
    classes: dict[str, int]
    others: list[str]
    depth: int

    def label(self, name: str) -> int:
        """The number of the class of a file."""
        return self.classes[name.split("/")[self.depth]]

    def below_class(self, name: str) -> str:
        """The path of a file below its class folder, or below its split without classes."""
        return "/".join(name.split("/")[self.depth + bool(self.classes) :])


def arrange(archive: Archive) -> Layout:
    """Find splits and classes.

    Raises:
        UserError: no image, an empty folder, images at different depths or too deep, a class that only
            `test/` has, or something beside `train/` and `test/`; names the path.
    """
    images = [file for file in archive.files if is_image(file.name)]
    others = [file.name for file in archive.files if not is_image(file.name)]
    if not images:
        found = f"{len(others):,} other files, e.g. {others[0]}" if others else "nothing"
        raise UserError(f"dataset.root={archive.root} holds no image (.png, .jpg, ...); found {found}")
    if archive.empty:
        raise UserError(f"{archive.path(archive.empty[0])} is empty; put images into it or remove it")
    tops = {file.name.split("/")[0] for file in images if "/" in file.name}
    if "train" not in tops and tops != {"test"}:
        depth, splits = 0, {"train": images}
    else:
        depth, splits = 1, {}
        for split in ("train", "test"):
            members = [file for file in images if file.name.startswith(f"{split}/")]
            if members:
                splits[split] = members
        stray = next((f for f in images if f.name.split("/")[0] not in ("train", "test")), None)
        if stray is not None:
            raise UserError(
                f"{archive.path(stray.name)} lies beside train/: expected only train/ and test/ at the top; "
                "move it below train/, or rename train/ if it is a class"
            )
        if "train" not in splits:
            raise UserError(
                f"{archive.path('test')} has no train/ beside it; add one, or name it with dataset.root"
            )
    labelled = {split: _labelled(archive, files, depth) for split, files in splits.items()}
    if labelled.get("test", labelled["train"]) != labelled["train"]:
        raise UserError(
            f"dataset.root={archive.root}: one of train/ and test/ has class folders, the other has none, "
            f"e.g. {splits['train'][0].name} and {splits['test'][0].name}"
        )
    classes: dict[str, int] = {}
    if labelled["train"]:
        names = sorted({file.name.split("/")[depth] for file in splits["train"]})
        classes = {name: i for i, name in enumerate(names)}
        for file in splits.get("test", []):
            if file.name.split("/")[depth] not in classes:
                folder = file.name.rpartition("/")[0]
                raise UserError(
                    f"{archive.path(folder)} is a class that train/ does not have; it has {_some(names)}"
                )
    return Layout(splits, classes, others, depth)


def _labelled(archive: Archive, files: list[File], depth: int) -> bool:
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
            "expected every image in CLASS/IMAGE or none"
        )
    folder = archive.path(levels[deepest]).rsplit("/", 2)[0]
    remedy = (
        f"name the folder above the class folders (dataset.root={folder}?) or "
        if archive.root.is_dir()
        else ""
    )
    raise UserError(
        f"{archive.path(levels[deepest])} lies {deepest} folders deep; expected CLASS/IMAGE: {remedy}move "
        "the images up"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
