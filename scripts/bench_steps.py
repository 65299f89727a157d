"""Whole training steps of adversarial models and of flows: `python scripts/bench.py adversarial`, or `flow`.

A step is what `gentrain train` does: every turn that is due, its optimiser, and the average of the weights.
Its arithmetic is counted, and held against the rate of matrix products that is measured beside it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bench_autoregressive import matrix_rate
from torch.utils.flop_counter import FlopCounterMode

from gentrain.api import compose_train
from gentrain.building import build_model
from gentrain.commands.assemble import build_updates
from gentrain.contracts import Batch, DataSpec
from gentrain.training.cpu import prepare
from gentrain.training.distributed import World
from gentrain.training.ema import EMA, LOOK_EVERY
from gentrain.training.precision import Precision
from gentrain.training.steps import Steps

#: Experiments, with their batches.
ADVERSARIAL = ("dcgan_mnist", "cgan_mnist", "infogan_mnist", "bigan_mnist", "sngan_mnist", "biggan_mnist")
FLOW = ("glow_mnist", "realnvp_mnist", "nice_mnist")
#: The nearest public implementation's Glow, which trains at 13.5 images/s on two cores in float32.
PUBLIC_GLOW = (
    *("model=glow", "model.scales=2", "model.depth=16", "model.hidden=512", "model.dropout=0.0"),
    *("dataset=mnist", "train.batch_size=32"),
)
Sizes = Sequence[tuple[str, tuple[str, ...], tuple[int, int, int]]]
#: Of the rate of matrix products in float32, what is wanted.
WANTED = {"adversarial": 0.6, "flow": 0.75}


def bench_adversarial(arguments: argparse.Namespace) -> bool:
    """Images per second of the adversarial models of the experiments, and the share of the machine's rate."""
    return measured(experiments(ADVERSARIAL), WANTED["adversarial"], arguments)


def bench_flow(arguments: argparse.Namespace) -> bool:
    """The same of flows."""
    public = ("glow 2x16x512", PUBLIC_GLOW, (1, 32, 32))
    return measured([public, *experiments(FLOW)], WANTED["flow"], arguments)


def experiments(names: Sequence[str]) -> Sizes:
    """The experiments of these names on images of MNIST's shape."""
    return [(name, (f"experiment={name}",), (1, 28, 28)) for name in names]


def measured(sizes: Sizes, wanted: float, arguments: argparse.Namespace) -> bool:
    """A line for each model and precision; whether each reaches `wanted` of the rate in float32."""
    prepare(torch.device("cpu"))  # as `gentrain train` does
    reached = True
    for name, settings, shape in sizes:
        if arguments.only and arguments.only not in name:
            continue
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            if precision == "bf16" and Precision("bf16", "cpu").slowness() > 3:
                print(f"{name:<16} bf16   this CPU has no instructions for it")
                continue
            step, period, batch_size = stepping(settings, shape, precision)
            with FlopCounterMode(display=False) as counter:
                for number in range(period):
                    step(number)
            operations = counter.get_total_flops() / period / batch_size
            rates, shares = [], []
            for _ in range(arguments.repeats):
                began = time.perf_counter()
                for number in range(period):
                    step(number)
                rates.append(period * batch_size / (time.perf_counter() - began))
                shares.append(rates[-1] * operations / matrix_rate(dtype, repeats=3))
            rate, share = statistics.median(rates), statistics.median(shares)
            missed = precision == "fp32" and share < wanted
            print(
                f"{name:<16} {precision}   {rate:8.1f} images/s of {operations / 1e9:6.2f} GFLOP   "
                f"{share:4.0%} of the rate of matrix products"
                + (f"   (wanted: at least {wanted:.0%})" if precision == "fp32" else "")
                + ("   MISSED" if missed else ""),
                flush=True,
            )
            reached &= not missed
    return reached


def stepping(
    settings: Sequence[str], shape: tuple[int, int, int], precision: str
) -> tuple[Callable[[int], Any], int, int]:
    """A function of a step's number that trains, after how many steps turns repeat, and the batch size."""
    config = compose_train(settings)
    batch_size = config.train.batch_size
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (batch_size, *shape), generator=generator).to(torch.uint8)
    batch = Batch(x, label=torch.arange(batch_size) % 10)
    model = build_model(config.model, DataSpec(shape, classes=10))
    with torch.no_grad():
        model.data_dependent_init(batch)
    updates = build_updates(config, model, Precision(precision, "cpu"), World(), ())
    steps = Steps(model, updates, EMA(model, 0.999), World())
    # The average looks at a batch in every so many steps.
    period = math.lcm(*(update.turn.every for update in updates), LOOK_EVERY)

    def step(number: int) -> None:
        steps(batch, number)

    return step, period, batch_size
