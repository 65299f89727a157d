"""The README and docs/ say what is so: their links lead somewhere, their commands can be typed."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest
from running import TESTS

from gentrain.arguments import prepared
from gentrain.composing import composed
from gentrain.config import conform, options, path_keys
from gentrain.contracts import capabilities, latents
from gentrain.schemas import SCHEMAS

ROOT = TESTS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}


def commands(text: str) -> list[list[str]]:
    """The words of every `gentrain VERB ...` line that a reader is to type."""
    lines = re.findall(r"^    gentrain (\S.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


TYPED = [(name, words) for name, text in TEXTS.items() for words in commands(text)]


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 130


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXTS[name]):
        if "://" not in target:
            assert (ROOT / name).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("name", [name for name in TEXTS if name.startswith("docs/")])
def test_a_page_begins_with_a_command(name: str) -> None:
    head = "\n".join(TEXTS[name].splitlines()[:14])
    assert re.search(r"^    (gentrain|make) |^```python", head, re.MULTILINE), (
        "a command to type, near its top"
    )


def test_pages_are_named_in_the_readme() -> None:
    for name in TEXTS:
        assert name == "README.md" or f"({name})" in TEXTS["README.md"], name


@pytest.mark.parametrize(("name", "words"), TYPED, ids=[" ".join(words) for _, words in TYPED])
def test_commands_can_be_typed(name: str, words: list[str]) -> None:
    verb, *rest = words
    assert verb in SCHEMAS
    overrides = [word for word in rest if not word.startswith("-")]
    if "-m" in rest:  # the first job of a sweep
        overrides = [re.sub(r"=([^,\[]*),.*", r"=\1", override) for override in overrides]
    overrides = [prepared(override, path_keys(verb), sweep=False) for override in overrides]
    conform(SCHEMAS[verb], composed(verb, overrides, []))


def test_every_model_has_a_row() -> None:
    for model in options("model"):
        assert f"`{model}`" in TEXTS["docs/models.md"], model


def test_every_capability_has_a_runnable_example() -> None:
    modules = (capabilities, latents)
    found = [
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type) and thing.__module__ == module.__name__
    ]
    assert len(found) >= 9
    for capability in found:
        assert ">>> " in (capability.__doc__ or ""), capability
    for module in modules:
        result = doctest.testmod(module)
        assert result.failed == 0
        assert result.attempted > 9
