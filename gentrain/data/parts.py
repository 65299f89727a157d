"""The parts of a batch, by name: how their arrays are called in a cache, and of what type they are.

Everything below `data/` loops over these names; what is added here is stored, read, shuffled, held out and
hashed like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gentrain.contracts import Batch


@dataclass(frozen=True)
class Part:
    """One part of a batch.

    Args:
        stored: what its arrays are called in a cache entry, after the split: `train_<stored>`.
        dtype: of the stored array.
        served: of a batch, where it is another than the stored one.
        several: whether there may be several of one image, [N, K, ...], the missing ones 0: served in turn.
        images: whether it is images, [N, C, H, W], which are many bytes, written and hashed piece by piece.
    """

    stored: str
    dtype: type[np.generic]
    served: torch.dtype | None = None
    several: bool = False
    images: bool = False


PARTS = {
    "x": Part("images", np.uint8, images=True),
    "label": Part("labels", np.int64),
    "attributes": Part("attributes", np.bool_),
    "source": Part("sources", np.uint8, images=True),
    "caption": Part("captions", np.int32, served=torch.int64, several=True),
}
assert tuple(PARTS) == Batch._fields
