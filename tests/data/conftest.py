"""Small data sets, made on the spot."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def common(tmp_path: Path) -> dict[str, Any]:
    """The settings that all data sets share, with a cache of the test's own."""
    return {
        "cache": str(tmp_path / "cache"),
        "validation": 0,
        "split_seed": 0,
        "binarize": "none",
        "flip": False,
        "crop": 0,
        "source": None,
        "paired": True,
        "background": None,
        "stacked": False,
        "held_out": None,
        "license": None,
    }


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, where there is one."""
    folder = os.environ.get("GENTRAIN_DATA")
    if not folder:
        pytest.skip("GENTRAIN_DATA is not set")
    return Path(folder)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is refused at once."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # urllib keeps the proxies that it saw first.
    monkeypatch.setattr(urllib.request, "_opener", None)
