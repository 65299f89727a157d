"""The first batches of data sets, which must stay what they were: a resumed run depends on them.

`python tests/data/test_golden_batches.py` writes those that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.data.batches import Batches, in_order

FILE = Path(__file__).parent.parent / "golden" / "batches.json"
CASES = {
    "digits": ["dataset=digits"],
    "digits dynamic": ["dataset=digits", "dataset.binarize=dynamic", "dataset.flip=true"],
    "digits fixed": [
        "dataset=digits",
        "dataset.binarize=fixed",
        "dataset.validation=0.2",
        "dataset.split_seed=3",
    ],
    "mnist dynamic": ["dataset=mnist", "dataset.binarize=dynamic"],
    "folder flip": [
        "dataset=folder",
        "dataset.root=${oc.env:GENTRAIN_DATA}/cifar10.zip",
        "dataset.flip=true",
    ],
}
NEEDS_DATA = {"mnist dynamic", "folder flip"}


def hashes(overrides: list[str]) -> list[str]:
    """Of four training batches, two of validation and one of test, all parts."""
    config = compose_train(overrides)
    data = build_source(OmegaConf.create(OmegaConf.to_container(config.dataset, resolve=True))).load()
    cpu: Any = torch.device("cpu")
    batches = Batches(data, data.train, batch_size=64, seed=7, device=cpu)
    found = [batches.at(step) for step in (0, 1, 23, 1000)]
    found.append(Batches(data, data.train, batch_size=64, seed=7, device=cpu, rank=1, world=2).at(5))
    for split in (data.validation, data.test):
        if split is not None:
            found += list(in_order(data, split, batch_size=50, device=cpu, seed=7, limit=60))
    digest = [hashlib.sha256() for _ in found]
    for one, batch in zip(digest, found, strict=True):
        for name, part in batch._asdict().items():
            if part is not None:
                one.update(f"{name} {part.dtype} {list(part.shape)}".encode() + part.numpy().tobytes())
    return [one.hexdigest()[:16] for one in digest]


@pytest.mark.parametrize("name", CASES)
def test_batches_are_what_they_were(name: str) -> None:
    if name in NEEDS_DATA and "GENTRAIN_DATA" not in os.environ:
        pytest.skip("GENTRAIN_DATA is not set")
    assert hashes(CASES[name]) == json.loads(FILE.read_text())[name]


if __name__ == "__main__":
    kept = json.loads(FILE.read_text()) if FILE.is_file() else {}
    kept = {name: kept.get(name) or hashes(overrides) for name, overrides in CASES.items()}
    FILE.write_text(json.dumps(kept, indent=1) + "\n")
