"""A little experiment to reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TARGET: dict[str, Any] = {
    "metric": "likelihood.nats",
    "split": "test",
    "published": 180.0,
    "at_most": 180.0,
    "tolerance": 100.0,
    "samples": 3,
    "source": "a paper, table 1",
}
FOLDER = Path("outputs/reproduce/tiny")


def own_configs() -> list[str]:
    """What `reproduce` names its YAML by."""
    return ["--config-dir", str(Path.cwd().parent / "own")]
