"""Emoji in two styles as class folders: `python scripts/emoji_folders.py emoji.zip emoji_folders.zip`.

Reads a zip of STYLE/PART/IMAGE.png with a metadata.csv (file_name, category) in each STYLE/PART, and writes
one of PART/CATEGORY/STYLE-IMAGE.png, which `dataset=folder` takes: styles together, categories as labels.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import zipfile
from pathlib import Path


def arrange(source: Path, target: Path) -> dict[str, int]:
    """Write `target`; returns {PART/CATEGORY: images}.

    Raises:
        KeyError: a metadata.csv names an image that is not there.
    """
    counts: dict[str, int] = {}
    with zipfile.ZipFile(source) as emoji, zipfile.ZipFile(target, "w") as folders:
        for name in sorted(emoji.namelist()):
            found = re.fullmatch(r"(?:.*/)?([^/]+)/([^/]+)/metadata\.csv", name)
            if not found:
                continue
            style, part = found.groups()
            for row in csv.DictReader(io.StringIO(emoji.read(name).decode())):
                category = row["category"].lower().replace(" & ", "_and_").replace(" ", "_")
                image = emoji.read(name.removesuffix("metadata.csv") + row["file_name"])
                folder = f"{part}/{category}"
                # Of a fixed date, so that the same images make the same file.
                folders.writestr(zipfile.ZipInfo(f"{folder}/{style}-{row['file_name']}"), image)
                counts[folder] = counts.get(folder, 0) + 1
    return counts


def main() -> None:
    """Arrange, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    for folder, count in sorted(arrange(given.source, given.target).items()):
        print(f"{count:6,}  {folder}")


if __name__ == "__main__":
    main()
