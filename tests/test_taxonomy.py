"""The page of the taxonomy: a tree over all its leaves, and nothing that it takes from elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from running import TESTS, environment

from gentrain.api import compose_train

SCRIPTS = TESTS.parent / "scripts"


@pytest.fixture(scope="module")
def taxonomy() -> ModuleType:
    """scripts/taxonomy.py."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import taxonomy as module
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


@pytest.fixture
def cards(taxonomy: ModuleType) -> list[object]:
    """A card for each leaf, with samples of its own shade."""
    made = []
    for i, leaf in enumerate(taxonomy.LEAVES):
        file = io.BytesIO()
        Image.new("L", (64, 64), 40 * i + 40).save(file, format="PNG")
        facts = {"kind": f"<{leaf.model}> & more", "command": f"gentrain train model={leaf.model}"}
        made.append(taxonomy.Card(leaf, file.getvalue(), facts))
    return made


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in its turn."""

    VOID = frozenset({"meta", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_every_leaf_and_nothing_from_elsewhere(
    taxonomy: ModuleType, cards: list[object]
) -> None:
    text = taxonomy.page(cards)
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert len(parser.sources) == len(cards)
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    for leaf in taxonomy.LEAVES:
        assert f'id="{leaf.model}"' in text
        assert f"&lt;{leaf.model}&gt; &amp; more" in text
        assert f"<code>gentrain train model={leaf.model}</code>" in text


def test_the_tree_covers_its_leaves(taxonomy: ModuleType) -> None:
    assert taxonomy.nodes(0) == [("explicit density", 3), ("implicit density", 1)]
    assert taxonomy.nodes(1) == [("tractable", 2), ("approximate", 1), ("direct sampling", 1)]
    for leaf in taxonomy.LEAVES:
        compose_train([f"model={leaf.model}", "dataset=digits"])


def test_the_picture_shows_every_leafs_samples(
    taxonomy: ModuleType, cards: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = taxonomy.picture(cards)
    colours = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert {(40 * i + 40,) * 3 for i in range(len(cards))} <= colours
    bottom = sheet.crop((0, sheet.height - 8, sheet.width, sheet.height))
    assert bottom.getcolors() == [(8 * sheet.width, (255, 255, 255))], "nothing is cut off"
    monkeypatch.setattr(taxonomy, "footer", lambda: "")
    assert taxonomy.picture(cards).tobytes() != sheet.tobytes(), "where and when it was made stands there"


@pytest.mark.slow
def test_the_whole_page_from_short_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "taxonomy.py"), "--place", str(tmp_path), "train.steps=5"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "index.html").read_text()
    assert len(re.findall(r"bits/dim", text)) == 3
    assert "implicit model" in text
    with Image.open(tmp_path / "taxonomy.png") as picture:
        assert picture.width > 1000
