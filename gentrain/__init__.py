"""Train the classical deep generative models from one command line, or from Python.

import gentrain
model = gentrain.load("outputs/vae-mnist/latest")
model.sample(16)  # uint8 [16, C, H, W]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gentrain.api import build, load
    from gentrain.contracts import Batch, DataSpec, GenerativeModel, Turn

# torch takes seconds to import, `gentrain --help` must not: names are imported when they are used.
_PLACES = {
    "build": "gentrain.api",
    "load": "gentrain.api",
    "Batch": "gentrain.contracts",
    "DataSpec": "gentrain.contracts",
    "GenerativeModel": "gentrain.contracts",
    "Turn": "gentrain.contracts",
}

__all__ = ["Batch", "DataSpec", "GenerativeModel", "Turn", "__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'gentrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
