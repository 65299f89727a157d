"""The browser that pages are opened in, and the runs that they explore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from exploring import ATTRIBUTES, FEW, FOUR, TOLD
from running import MODELS

from gentrain.cli import main
from gentrain.training import checkpoint


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, one for all, since it takes seconds to start; without it these tests skip."""
    with chromium() as chrome:
        yield chrome


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a model, trained when it is first asked for."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name.endswith("/attributes"):
            place = run(name.partition("/")[0])
            state = checkpoint.load(place / "checkpoints/last.pt")
            state["spec"] |= {"classes": None, "label_names": None, "attributes": ATTRIBUTES}
            checkpoint.save(state, place / "told.pt")
            return place / "told.pt"
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "run"
            arguments = {**MODELS, **FOUR, **TOLD}[name]
            assert main(["train", *FEW, *arguments, f"run_dir={made[name]}"]) == 0
        return made[name]

    return run
