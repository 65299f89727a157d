"""The page of the taxonomy: a tree over every system, and nothing that it takes from elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from browser import chromium, fetched, opened, troubles
from PIL import Image
from running import TESTS, environment

from gentrain.api import compose_train
from gentrain.config import options
from gentrain.pages.taxonomy import Leaf, taxonomy_page, tree_of

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


@pytest.fixture(scope="module")
def leaves(taxonomy: ModuleType) -> list[Leaf]:
    """Every leaf, with samples of one shade; the last has none."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 99).save(file, format="PNG")
    png, made = file.getvalue(), []
    for name, own in taxonomy.said().items():
        facts = {"training": "20 s", "-log p(x)": f"<{name}> & more"}
        command = "gentrain " + " ".join(taxonomy.command_of(name))
        texts = (own["equation"], own["says"], *own["paper"], command)
        made.append(Leaf(name, own["branch"], *texts, facts, "samples", png, png))
    return [*made[:-1], Leaf(**{**vars(made[-1]), "pictures": b"", "facts": None, "trouble": "not trained"})]


def test_every_system_is_a_leaf_that_says_what_it_is(taxonomy: ModuleType) -> None:
    said = taxonomy.said()
    assert set(said) == set(options("model"))
    for name, own in said.items():
        assert set(own) == {"branch", "settings", "equation", "says", "paper"}, name
        assert len(re.findall(r"[.;] |\.$", own["says"])) >= 2, f"{name}: two sentences"
        assert own["paper"][1].startswith("https://"), name
        if own["settings"]:  # the others are composed elsewhere
            compose_train(taxonomy.command_of(name)[1:])
    assert said["dae"]["branch"][:2] == ["implicit density", "Markov chain"]


def test_the_tree_holds_each_leaf_once_in_its_place(leaves: list[Leaf]) -> None:
    found: list[str] = []

    def walk(nodes: list[dict[str, object]], above: list[str]) -> None:
        for node in nodes:
            path = [*above, str(node["name"])]
            if "nodes" in node:
                walk(node["nodes"], path)  # type: ignore[arg-type]
            for leaf in node.get("leaves", []):  # type: ignore[attr-defined]
                assert list(leaf.branch) == path
                found.append(leaf.name)

    tree = tree_of(leaves)
    walk(tree, [])
    assert found == [leaf.name for leaf in leaves]
    assert [node["name"] for node in tree] == ["explicit density", "implicit density", "no density"]


def test_the_page_in_a_browser(leaves: list[Leaf], tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(taxonomy_page(leaves, "digits", "../docs/models.md", "today"), encoding="utf-8")
    assert not fetched(page.read_text(encoding="utf-8"))
    with chromium() as browser:
        for width, dark in ((390, True), (390, False), (1280, True), (1280, False)):
            opened(browser, page, width, dark)
            assert troubles(browser) == []
        shown = browser.execute_script(
            "return Array.from(document.querySelectorAll('article'), (e) =>"
            "[e.getAttribute('aria-labelledby'), e.innerText, e.querySelectorAll('img').length])"
        )
        links = browser.execute_script(
            "return Array.from(document.querySelectorAll('.tree .leaves a'),"
            "(a) => [a.textContent, a.getAttribute('href')])"
        )
    assert links == [[leaf.name, f"#{leaf.name}"] for leaf in leaves]
    for leaf, (name, text, pictures) in zip(leaves, shown, strict=True):
        assert name == leaf.name
        for part in (leaf.says, leaf.command, f"<{name}> & more" if leaf.facts else "not trained"):
            assert part in text
        assert pictures == (2 if leaf.pictures else 0)


def test_an_unknown_leaf_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "taxonomy.py"), "--place", str(tmp_path), "--leaves", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown leaf nothing; there are" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_leaves_from_short_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "taxonomy.py"), "--place", str(tmp_path)]
    command += ["--leaves", "gan,vae", "train.steps=5"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.index('id="vae"') < text.index('id="gan"'), "in the order of the tree"
    assert re.search(r"± [\d.]+ nats, IWAE-100", text)
    assert "none: it is an implicit model" in text
    assert "5 steps" in text
