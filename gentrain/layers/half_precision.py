"""What must not be computed in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Autocast's half precision widened; other dtypes kept."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
