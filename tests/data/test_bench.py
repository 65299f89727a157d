from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench.py"


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "GENTRAIN_DATA": str(tmp_path), "PYTHONPATH": str(SCRIPT.parents[1])}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "data"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "GENTRAIN_DATA" in ended.stderr


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of scripts/, by its name."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # as Python does for a script
    return importlib.import_module


def test_products_are_counted_and_done_again(script: Callable[[str], ModuleType]) -> None:
    """Those in place too, which the LSTMs' scan is made of; sums and activations are none."""
    bench = script("bench_autoregressive")
    a, b, total = torch.randn(3, 4), torch.randn(4, 5), torch.zeros(3, 5)
    x, kernel = torch.randn(1, 2, 6, 6), torch.randn(3, 2, 3, 3)
    with (
        FlopCounterMode(display=False, custom_mapping=bench.IN_PLACE) as counter,
        bench.Products() as products,
    ):
        total.addmm_(a, b)
        (total + a @ b).sigmoid_()
        torch.nn.functional.conv2d(x, kernel)
    assert counter.get_total_flops() == 2 * (2 * 3 * 4 * 5) + 2 * 3 * 4 * 4 * 2 * 9
    assert len(products.calls) == 3
    products.again()
    torch.testing.assert_close(total, 2 * (a @ b))


def test_real_figures_come_in_turn(script: Callable[[str], ModuleType]) -> None:
    bench = script("bench")
    calls: list[str] = []

    def run(name: str) -> int:
        calls.append(name)
        return 1000

    rates = bench.in_turn([lambda: run("a"), lambda: run("b")], 2)
    assert calls == ["a", "b"] * 3
    assert all(rate > 1000 for rate in rates)
