"""Progress is drawn where someone asked for it and can see it, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gentrain import progress


class Terminal:
    """A stderr that says it is a terminal, and keeps what is written."""

    def __init__(self) -> None:
        self.text = ""
        self.encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr as a terminal; within a test, as pytest puts its own in place after the fixtures."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_nothing_is_drawn_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    items = range(3)
    assert progress.track(items, "row") is items
    assert screen.text == ""


def test_a_bar_counts_the_items_in_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with progress.shown():
        assert list(progress.track((i * i for i in range(3)), "row", total=3)) == [0, 1, 4]
    assert "/3" in screen.text
    assert "row" in screen.text
    written = screen.text
    assert list(progress.track(range(3), "row")) == [0, 1, 2]
    assert screen.text == written, "the context has ended"


def test_only_a_terminal_gets_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.shown():
        assert list(progress.track(range(3), "row")) == [0, 1, 2]
    assert capfd.readouterr().err == ""


def test_contexts_nest_and_end_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with progress.shown():
        with pytest.raises(RuntimeError), progress.shown():
            raise RuntimeError
        assert list(progress.track(range(2), "row")) == [0, 1]
        assert screen.text
    items = range(2)
    assert progress.track(items, "row") is items


def test_it_imports_neither_torch_nor_tqdm() -> None:
    script = "import sys, gentrain.progress as p; list(p.track(range(3), 'row'))\n"
    script += "assert not {'torch', 'tqdm'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
