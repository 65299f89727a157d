"""Measurements for maintainers: `python scripts/bench.py WHAT`."""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from gentrain.data.batches import Batches
from gentrain.data.mnist import MNIST
from gentrain.errors import GentrainError, UserError

BATCH = 128


def bench_data(arguments: argparse.Namespace) -> bool:
    """Images per second of our batches and of torchvision's MNIST in a DataLoader, measured in turn.

    Both deliver what a model trains on: float32 [128, 1, 28, 28] in [0, 1] and int64 labels, in a new
    random order each epoch. The DataLoader keeps its two workers between epochs, and binarises in them.
    """
    from torchvision import datasets, transforms

    root = Path(os.environ.get("GENTRAIN_DATA", "data")) / "mnist"
    if not (root / "MNIST" / "raw").is_dir():
        raise UserError(
            f"{root}/MNIST/raw does not exist; set GENTRAIN_DATA to the folder that holds mnist/, or let "
            "`gentrain train dataset=mnist` download it"
        )
    # A conversion to float is too small for a thread pool, which would mostly measure the other load.
    torch.set_num_threads(1)
    print(f"MNIST, batches of {BATCH}, one thread (and 2 workers), median of {arguments.repeats} epochs")
    reached = True
    for binarize, target in (("none", 10), ("dynamic", 5)):
        with tempfile.TemporaryDirectory() as cache:
            source = MNIST(
                root=str(root),
                cache=cache,
                validation=0,
                split_seed=0,
                binarize=binarize,
                flip=False,
                verify=True,
                image_size=None,
            )
            data = source.load()
            batches = Batches(data, data.train, batch_size=BATCH, seed=0, device=torch.device("cpu"))
        ours = epochs_of(batches, 1 / (data.spec.levels - 1))
        draw = [torch.bernoulli] if binarize == "dynamic" else []
        loader = DataLoader(
            datasets.MNIST(root, transform=transforms.Compose([transforms.ToTensor(), *draw])),
            batch_size=BATCH,
            shuffle=True,
            num_workers=2,
            persistent_workers=True,
        )

        def theirs() -> int:
            return sum(len(x) for x, _ in loader)  # noqa: B023

        rates = in_turn([ours, theirs], arguments.repeats)
        ratio = rates[0] / rates[1]
        reached &= ratio >= target
        print(
            f"binarize={binarize:<8} gentrain {rates[0]:>11,.0f} images/s   "
            f"DataLoader {rates[1]:>9,.0f} images/s   ratio {ratio:.1f} (wanted: at least {target})"
        )
    return reached


def epochs_of(batches: Batches, scale: float) -> Callable[[], int]:
    """One epoch after the other, in the floats that a model makes of it; returns the number of images."""
    start = itertools.count(step=batches.steps(1))

    def epoch() -> int:
        images, first = 0, next(start)
        for step in range(first, first + batches.steps(1)):
            batch = batches.at(step)
            images += len(batch.x.to(torch.float32).mul_(scale))
        return images

    return epoch


def in_turn(passes: list[Callable[[], int]], repeats: int) -> list[float]:
    """Median images per second of each pass, after one warm-up, taking turns so that noise hits all alike."""
    rates: list[list[float]] = [[] for _ in passes]
    for repeat in range(repeats + 1):
        for measured, run in zip(rates, passes, strict=True):
            start = time.perf_counter()
            images = run()
            if repeat:
                measured.append(images / (time.perf_counter() - start))
    return [statistics.median(measured) for measured in rates]


def main() -> int:
    """Exit status 0 where the wanted figures were reached, 1 where not, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    data = commands.add_parser("data", help="our batches against a torchvision DataLoader")
    data.add_argument("--repeats", type=int, default=5, help="epochs measured of each (default: %(default)s)")
    data.set_defaults(run=bench_data)
    arguments = parser.parse_args()
    try:
        return 0 if arguments.run(arguments) else 1
    except GentrainError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
