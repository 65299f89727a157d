"""Exported folders: their content, and how a test changes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from gentrain import exported

FEW = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4", "train.ema=0.5"]


def tensors(folder: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(Path(folder) / exported.WEIGHTS)


def described(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / exported.CONFIG).read_text())


def rewritten(folder: str, weights: dict[str, torch.Tensor]) -> None:
    """Give a folder other weights, with the SHA-256 that belongs to them."""
    content = safetensors.torch.save(weights)
    (Path(folder) / exported.WEIGHTS).write_bytes(content)
    edited(folder, lambda config: config["weights"].update(sha256=hashlib.sha256(content).hexdigest()))


def edited(folder: str, edit: Callable[[dict[str, Any]], object]) -> None:
    config = described(folder)
    edit(config)
    (Path(folder) / exported.CONFIG).write_text(json.dumps(config))
