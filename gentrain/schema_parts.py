"""What the sections of schemas.py are made of: a key with its range, and keys that many verbs take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional


def knob(
    default: Any,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    above: float | None = None,
    one_of: Sequence[str] | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with the range of its values; `path` marks a value that is a path."""
    limits = {"at_least": at_least, "at_most": at_most, "below": below, "above": above, "one_of": one_of}
    metadata = {name: limit for name, limit in limits.items() if limit is not None} | {"path": path}
    return field(default=default, metadata=metadata)


# OmegaConf reads these annotations at run time and wants Optional, not `| None`.
# ruff: noqa: UP045


@dataclass
class CheckpointConfig:
    """What every command on a trained model takes."""

    # A checkpoint file, a run folder (its last), an exported folder, or latest: the newest run.
    ckpt: str = knob("latest", path=True)
    # auto, cpu, cuda, cuda:N or mps; auto takes the best there is.
    device: str = "auto"
    # Threads that compute on the CPU. None: one for each core, or OMP_NUM_THREADS.
    threads: Optional[int] = knob(None, at_least=1, at_most=1024)
    # Seeds all noise.
    seed: int = knob(0, at_least=0, below=2**63)
    # Use the averaged weights where the checkpoint has them.
    ema: bool = True
    # Own packages whose classes the checkpoint's `_target_` may name.
    trust: Any = field(default_factory=list, metadata={"names": True})


@dataclass
class DatasetPlace:
    """Where the data lie now."""

    # The data set's own folder or file; other data than in training too. None: where it lay in training.
    root: Optional[str] = knob(None, path=True)
    # Photographs, for data with dataset.source=background. None: where they lay in training.
    background: Optional[str] = knob(None, path=True)
    # Folder of the decoded arrays. None: GENTRAIN_CACHE, or ~/.cache/gentrain.
    cache: Optional[str] = knob(None, path=True)
    # Compare published files with their checksums; false for others in their format. None: as in training.
    verify: Optional[bool] = None


@dataclass
class GivenConfig(CheckpointConfig):
    """What images are to have, for a model that is told."""

    # Label of every image, its name or number. None: its own, or all in turn where images are drawn.
    label: Any = None
    # Names of the attributes that every image has, [Male,Eyeglasses]; it has no other. None: as for label.
    attributes: Any = None
    # Caption of every image, in the words of the data's captions. None: as for label.
    caption: Any = None
