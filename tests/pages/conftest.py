"""The browser that pages are opened in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, one for each module; without it these tests skip."""
    with chromium() as chrome:
        yield chrome
