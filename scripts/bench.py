"""Measurements for maintainers: `python scripts/bench.py WHAT`."""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bench_autoregressive import bench_autoregressive, bench_sample, matrix_rate
from bench_steps import bench_adversarial, bench_flow
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from gentrain.api import compose_train
from gentrain.building import build_model, build_optimizer, build_source
from gentrain.commands.assemble import build_updates
from gentrain.contracts import Batch, DataSpec
from gentrain.data.batches import Batches
from gentrain.errors import GentrainError, UserError
from gentrain.training.cpu import prepare
from gentrain.training.distributed import World
from gentrain.training.plan import Plan
from gentrain.training.precision import Precision
from gentrain.training.run import Run
from gentrain.training.steps import Steps
from gentrain.training.trainer import Trainer

BATCH = 128
#: Images per second at which the nearest public implementation of the PixelCNN trained on two CPU cores, in
#: float32 with batches of 128.
PUBLIC = 202


def bench_data(arguments: argparse.Namespace) -> bool:
    """Images per second of our batches and of torchvision's MNIST in a DataLoader, measured in turn.

    Both deliver what a model trains on: float32 [128, 1, 28, 28] in [0, 1] and int64 labels, in a new
    random order each epoch. The DataLoader keeps its two workers between epochs, and binarises in them.
    """
    from torchvision import datasets, transforms

    root = Path(os.environ.get("GENTRAIN_DATA") or "data") / "mnist"
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
            config = compose_train(["dataset=mnist", f"dataset.binarize={binarize}"]).dataset
            config.root, config.cache = str(root), cache
            data = build_source(config).load()
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


class Timed:
    """Ready batches that note when each one was taken: the time from the first to the last of a run."""

    def __init__(self, ready: list[Batch]) -> None:
        self.ready, self.times = ready, []

    def at(self, step: int) -> Batch:
        self.times.append(time.perf_counter())
        return self.ready[step % len(self.ready)]


def bench_loop(arguments: argparse.Namespace) -> bool:
    """Seconds per step of the trainer and of a bare loop over the same model and ready batches, in turn.

    Both train the same model from the same weights with the same optimiser, on MNIST (made-up pixels of
    its shape where it is not there), without an average of the weights. The trainer does all that it
    does between evaluations: masking, gradient norm, running means, a line of metrics every 50 steps.
    """
    reached = True
    # Two levels are the hardest case: the smallest step, in which the loop's own work weighs most.
    for model, levels, target in (("vae", 256, 1.05), ("vae_mlp", 256, 1.20), ("vae_mlp", 2, 1.20)):
        config = compose_train([f"model={model}", "dataset=mnist", "train.ema=null"])
        ready = ready_batches(levels)
        spec = DataSpec(shape=(1, 28, 28), levels=levels)
        pairs = [(ours(config, spec, ready, arguments), bare(config, spec, ready, arguments))]
        for _ in range(arguments.repeats):
            pairs.append((ours(config, spec, ready, arguments), bare(config, spec, ready, arguments)))
        pairs = pairs[1:]  # the first warms up
        ratio = statistics.median(a / b for a, b in pairs)
        reached &= ratio <= target
        a, b = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        print(
            f"{model:<8} {levels:>3} levels   trainer {a:6.2f} ms/step   bare loop {b:6.2f} ms/step   "
            f"ratio {ratio:.3f} (wanted: at most {target:.2f}; {BATCH / a * 1e3:,.0f} images/s)"
        )
    return reached


def ready_batches(levels: int, count: int = 20) -> list[Batch]:
    """Training batches, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    root = Path(os.environ.get("GENTRAIN_DATA") or "data") / "mnist"
    if (root / "MNIST" / "raw").is_dir():
        from torchvision import datasets

        images = datasets.MNIST(root).data[: count * BATCH, None]
    else:
        images = torch.randint(0, 256, (count * BATCH, 1, 28, 28), dtype=torch.uint8, generator=generator)
    if levels == 2:
        images = (images > 127).to(torch.uint8)
    return [Batch(x) for x in images.split(BATCH)]


def ours(config: DictConfig, spec: DataSpec, ready: list[Batch], arguments: argparse.Namespace) -> float:
    """Seconds per step of the trainer."""
    torch.manual_seed(0)
    model = build_model(config.model, spec)
    updates = build_updates(config, model, Precision("fp32", "cpu"), World(), ())
    plan = Plan(
        steps=arguments.steps + 1,
        batch_size=BATCH,
        log_every=50,
        keep=1,
        sample_count=1,
        seed=0,
        **dict.fromkeys(("eval_every", "sample_every", "checkpoint_every"), 10**9),
    )
    batches = Timed(ready)
    with tempfile.TemporaryDirectory() as folder:
        identity = {"config": "", "names": {}, "spec": {}}
        Trainer(Steps(model, updates, None, World()), batches, None, plan).fit(Run(Path(folder)), identity)
    return (batches.times[-1] - batches.times[0]) / arguments.steps


def bare(config: DictConfig, spec: DataSpec, ready: list[Batch], arguments: argparse.Namespace) -> float:
    """Seconds per step of the shortest loop that trains the same."""
    torch.manual_seed(0)
    model = build_model(config.model, spec)
    optimizer = build_optimizer(config.optim.main, "main", list(model.parameters()))
    batches = Timed(ready)
    for step in range(arguments.steps):
        optimizer.zero_grad()
        model.loss(batches.at(step), step)[0].backward()
        optimizer.step()
    return (time.perf_counter() - batches.times[0]) / arguments.steps


def bench_train(arguments: argparse.Namespace) -> bool:
    """Images per second of training a PixelCNN on binarised MNIST, and the share of the machine's rate.

    Data, forward, backward and step, in float32 and in bf16, beside the same arithmetic written with
    whole kernels of which the masked part is zero. The rate is that of square matrix products, measured
    in the same run.
    """
    prepare(torch.device("cpu"))  # as `gentrain train` does
    config = compose_train(["model=pixelcnn", "dataset=mnist"])
    ready = ready_batches(levels=2)
    spec = DataSpec(shape=(1, 28, 28), levels=2)
    torch.manual_seed(0)
    model = build_model(config.model, spec)
    plain = copy.deepcopy(model)
    for name, layer in list(plain.named_modules()):
        if hasattr(layer, "mask"):
            parent, _, child = name.rpartition(".")
            setattr(plain.get_submodule(parent), child, WholeKernel(layer))
    with FlopCounterMode(display=False) as counter:
        model.loss(ready[0], 0)[0].backward()
    operations = counter.get_total_flops() / BATCH
    reached = True
    for dtype, wanted in ((torch.float32, 2.0), (torch.bfloat16, 3.5)):
        passes = [trained(m, config, ready, dtype, arguments.steps) for m in (model, plain)]
        ours, theirs = in_turn(passes, arguments.repeats)
        share = ours * operations / matrix_rate(dtype)
        print(
            f"{str(dtype).removeprefix('torch.'):<8} {ours:7,.0f} images/s   whole kernels {theirs:7,.0f}   "
            f"ratio {ours / theirs:.2f}   {share:.0%} of the rate of matrix products   "
            f"(wanted: at least {wanted * PUBLIC:,.0f})"
        )
        reached &= ours >= wanted * PUBLIC
    return reached


def bench_busy(arguments: argparse.Namespace) -> bool:
    """Images per second of `gentrain train` on an idle machine and beside a spinning process, in turn.

    Threads wait as OpenMP's library has it by default, and as `gentrain.waiting` has it.
    """
    reached = True
    for spinning, wanted in ((0, 0.95), (1, 1.3)):
        pairs = []
        for _ in range(arguments.repeats):
            with beside(spinning):
                # The library's own number of spins, given by the user: then it is left alone.
                pairs.append((train_rate(arguments, GOMP_SPINCOUNT="300000"), train_rate(arguments)))
        default, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        reached &= ratio >= wanted
        print(
            f"{arguments.model} on digits, beside {spinning} spinning: default {default:,.0f} images/s   "
            f"ours {ours:,.0f} images/s   ratio {ratio:.2f} (wanted: at least {wanted})",
            flush=True,
        )
    return reached


@contextlib.contextmanager
def beside(count: int) -> Iterator[None]:
    """Beside `count` processes that do nothing but spin."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def train_rate(arguments: argparse.Namespace, **environment: str) -> float:
    """Images per second between the first and the last line of metrics of a training of its own."""
    never = [f"train.{key}=1000000" for key in ("eval_every", "sample_every", "checkpoint_every")]
    with tempfile.TemporaryDirectory() as folder:
        words = [f"model={arguments.model}", "dataset=digits", f"train.steps={arguments.steps}", *never]
        command = [sys.executable, "-m", "gentrain", "train", *words, f"run_dir={folder}"]
        subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = [line for line in lines if "speed/seconds" in line]
    return (last["images"] - first["images"]) / (last["speed/seconds"] - first["speed/seconds"])


class WholeKernel(torch.nn.Module):
    """A masked convolution as it is usually written: the whole square kernel, zero where it is masked."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        rows = layer.weight.shape[3] - layer.weight.shape[2]  # those below the centre
        self.padding = layer.weight.shape[3] // 2
        self.weight = torch.nn.Parameter(torch.nn.functional.pad(layer.weight.detach(), (0, 0, 0, rows)))
        self.bias = torch.nn.Parameter(layer.bias.detach().clone())
        self.register_buffer("mask", torch.nn.functional.pad(layer.mask.float(), (0, 0, 0, rows)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, in, H, W] -> [B, out, H, W]."""
        weight = self.weight * self.mask
        return torch.nn.functional.conv2d(x.contiguous(), weight, self.bias, padding=self.padding)


def trained(
    model: Any, config: DictConfig, ready: list[Batch], dtype: torch.dtype, steps: int
) -> Callable[[], int]:
    """A function that trains for `steps`; returns the number of images."""
    optimizer = build_optimizer(config.optim.main, "main", list(model.parameters()))

    def run() -> int:
        for step in range(steps):
            batch = ready[step % len(ready)]
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = model.loss(batch, step)[0]
            loss.backward()
            optimizer.step()
        return steps * BATCH

    return run


#: Each measurement: its help, and its options with their defaults.
WHAT: dict[str, tuple[Callable[[argparse.Namespace], bool], str, dict[str, Any]]] = {
    "data": (bench_data, "our batches against a torchvision DataLoader", {"repeats": 5}),
    "loop": (bench_loop, "the trainer against a bare loop over the same model", {"steps": 100, "repeats": 7}),
    "sample": (
        bench_sample,
        "drawing value by value, beside the naive sampler",
        {"repeats": 3, "only": ""},
    ),
    "autoregressive": (
        bench_autoregressive,
        "training autoregressive models as published",
        {"repeats": 3, "only": ""},
    ),
    "adversarial": (bench_adversarial, "whole steps of adversarial models", {"repeats": 5, "only": ""}),
    "flow": (bench_flow, "whole steps of flows", {"repeats": 5, "only": ""}),
    "train": (bench_train, "training a PixelCNN, beside whole masked kernels", {"steps": 10, "repeats": 5}),
    "busy": (bench_busy, "training beside a spinning process", {"model": "vae", "steps": 800, "repeats": 7}),
}


def main() -> int:
    """Exit status 0 where the wanted figures were reached, 1 where not, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for name, (run, text, options) in WHAT.items():
        command = commands.add_parser(name, help=text)
        for option, default in options.items():
            command.add_argument(f"--{option}", type=type(default), default=default, help="(%(default)s)")
        command.set_defaults(run=run)
    arguments = parser.parse_args()
    try:
        return 0 if arguments.run(arguments) else 1
    except GentrainError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
