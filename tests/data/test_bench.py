from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench.py"


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "GENTRAIN_DATA": str(tmp_path), "PYTHONPATH": str(SCRIPT.parents[1])}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "data"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "GENTRAIN_DATA" in ended.stderr


def test_real_figures_come_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # as Python does for a script
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    calls: list[str] = []

    def run(name: str) -> int:
        calls.append(name)
        return 1000

    rates = bench.in_turn([lambda: run("a"), lambda: run("b")], 2)
    assert calls == ["a", "b"] * 3
    assert all(rate > 1000 for rate in rates)
