"""Comparing runs to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from gentrain.training import checkpoint


def same(a: Any, b: Any, where: str = "state") -> None:
    """Assert that two nested states are equal, every tensor to the bit."""
    assert type(a) is type(b), f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), f"{where} differs"
    elif isinstance(a, dict):
        assert list(a) == list(b), f"{where}: keys differ"
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), f"{where}: lengths differ"
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    else:
        assert a == b, f"{where}: {a} and {b}"


def same_end(one: Path, other: Path) -> None:
    """Assert that two run folders ended in the same state, with the same metrics, none lost or doubled."""
    a, b = (checkpoint.load(folder / "checkpoints" / "last.pt") for folder in (one, other))
    for state in (a, b):
        assert state.pop("seconds") > 0  # of the clock, as nothing else may be
    same(a, b)
    assert metrics(one) == metrics(other)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the clock's figures."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines]
