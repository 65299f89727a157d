"""`gentrain doctor`: what works on this machine, tried out, and what to type for what does not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import torch

from gentrain.commands.asked import Asked
from gentrain.config import conform, options
from gentrain.data.batches import available_memory
from gentrain.data.cache import default_place
from gentrain.errors import Fault, GentrainError
from gentrain.files import check_folder, expanded
from gentrain.schemas import DoctorConfig
from gentrain.train_schemas import PRECISIONS
from gentrain.training import cpu, provenance
from gentrain.training.precision import pick_device, pick_precision, product_seconds
from gentrain.training.run import OUTPUTS

#: Bytes of disk below which a run may not end.
_LITTLE = 2**30
#: Side of the matrices by which arithmetic is tried.
_SIDE = 512


class Finding(NamedTuple):
    """What was found of one thing.

    works: true, or false; None where it is only not there, and can be had.
    name: of the thing. words: what was found. remedy: what to type, where it does not work.
    """

    works: bool | None
    name: str
    words: str
    remedy: str = ""


def run(asked: Asked) -> None:
    """Try everything and print a line each.

    Raises:
        UserError: `device` names one that is not there.
        Fault: something does not work that every run needs.
    """
    config = conform(DoctorConfig, asked.config)
    device = pick_device(config.device)
    cpu.prepare(device)
    found = [finding for check in CHECKS for finding in tried(check, device)]
    width = max(len(finding.name) for finding in found)
    for finding in found:
        mark = {True: "ok", False: "NO", None: "--"}[finding.works]
        print(f"{mark}  {finding.name:{width}}  {finding.words}")
        if finding.remedy:
            print(f"    {'':{width}}  type: {finding.remedy}")
    broken = [finding.name for finding in found if finding.works is False]
    if broken:
        raise Fault(f"{', '.join(broken)}: what does not work is above, with what to type")
    print("next    gentrain train")


def tried(check: Callable[[torch.device], Iterator[Finding]], device: torch.device) -> Iterator[Finding]:
    """What a check finds; that it fails is a finding, too."""
    try:
        yield from check(device)
    except Exception as error:
        name = check.__name__.lstrip("_").replace("_", " ")
        yield Finding(False, name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


# The checks, in the order of the lines


def _versions(device: torch.device) -> Iterator[Finding]:
    words = ", ".join(f"{name} {number}" for name, number in provenance.versions().items())
    commit = provenance.commit()
    yield Finding(True, "versions", words + (f", commit {commit[:12]}" if commit else ""))
    yield Finding(True, "settings", f"{len(options('model'))} models, {len(options('dataset'))} data sets")


def _device(device: torch.device) -> Iterator[Finding]:
    seconds = product_seconds(device, _SIDE)
    rate = 2 * _SIDE**3 / seconds / 1e9
    yield Finding(True, "device", f"{device}: {provenance.hardware(device)}, {rate:.0f} GFLOP/s in float32")
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        yield Finding(True, "memory", f"{free / 2**30:.1f} of {whole / 2**30:.1f} GiB of the GPU free")
    elif torch.version.cuda and os.path.exists("/proc/driver/nvidia"):
        yield Finding(None, "GPU", "there is a driver, and torch finds no GPU", "nvidia-smi")
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        remedy = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
        yield Finding(None, "GPU", f"there is one, and torch {torch.__version__} is without CUDA", remedy)
    yield Finding(True, "main memory", f"{available_memory() / 2**30:.1f} GiB can be used")


def _threads(device: torch.device) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    words = f"{threads} of {cores} cores"
    if threads > cores:
        yield Finding(None, "threads", f"{words}: more than there are", f"gentrain train threads={cores}")
    else:
        yield Finding(True, "threads", words + ("" if threads == cores else f"; threads={cores} takes all"))


def _precision(device: torch.device) -> Iterator[Finding]:
    auto = pick_precision("auto", device).name
    slow = product_seconds(device, _SIDE)
    for name in PRECISIONS[1:]:
        try:
            precision = pick_precision(name, device)
            with precision.autocast():
                seconds = product_seconds(device, _SIDE)
        except (GentrainError, RuntimeError) as error:
            yield Finding(None, name, " ".join(str(error).split())[:120])
            continue
        words = (
            ["works"] if name == "fp32" else [f"products take {seconds / slow:.2g} times as long as in fp32"]
        )
        yield Finding(True, name, ", ".join(words + ["what precision=auto takes"] * (name == auto)))


def _disk(device: torch.device) -> Iterator[Finding]:
    places = {"runs": (OUTPUTS.absolute(), "run_dir=FOLDER"), "cache": (expanded(default_place()), "")}
    for name, (place, key) in places.items():
        remedy = f"gentrain train {key}" if key else "export GENTRAIN_CACHE=FOLDER"
        try:
            check_folder(place, str(place))
        except GentrainError as error:
            yield Finding(False, name, str(error), remedy)
            continue
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        words = f"{place}, {free / 2**30:.1f} GiB free"
        yield Finding(True, name, words) if free > _LITTLE else Finding(None, name, words, remedy)
    data = os.environ.get("GENTRAIN_DATA")
    if data and not Path(data).expanduser().is_dir():
        yield Finding(None, "data", f"GENTRAIN_DATA={data} is no folder", "export GENTRAIN_DATA=FOLDER")
    else:
        yield Finding(True, "data", f"under {data or 'data/'}, unless dataset.root says where")


def _TensorBoard(device: torch.device) -> Iterator[Finding]:
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="gentrain-") as folder:
        with SummaryWriter(folder) as writer:
            writer.add_scalar("x", 1.0, 1)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    if not size:
        yield Finding(False, "TensorBoard", "it writes nothing", "pip install --force-reinstall tensorboard")
    yield Finding(True, "TensorBoard", f"{version('tensorboard')}; to look: tensorboard --logdir outputs")


def _compiler(device: torch.device) -> Iterator[Finding]:
    names = ("c++", "g++", "clang++")
    found = next((name for name in names if shutil.which(os.environ.get("CXX", name))), None)
    if found is None:
        yield Finding(None, "compiler", "none, which train.compile=true needs", "apt-get install g++")
    else:
        place = shutil.which(os.environ.get("CXX", found))
        yield Finding(True, "compiler", f"{place}, for train.compile=true")


def _extras(device: torch.device) -> Iterator[Finding]:
    """What is no dependency: every extra that the package names."""
    for extra, packages in extras().items():
        missing = [name for name in packages if _version(name) is None]
        remedy = f"pip install 'gentrain[{extra}]'"
        if missing:
            yield Finding(None, f"extra {extra}", f"without {', '.join(missing)}", remedy)
        else:
            yield Finding(True, f"extra {extra}", ", ".join(f"{name} {_version(name)}" for name in packages))


def extras() -> dict[str, list[str]]:
    """{extra: its packages}, but for the developers'; empty where gentrain was not installed."""
    try:
        lines = requires("gentrain") or []
    except PackageNotFoundError:  # a checkout that nobody installed
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        package, _, marker = line.partition(";")
        extra = marker.partition("extra ==")[2].strip(" \"'")
        name = package.strip().split(" ")[0].split("[")[0].split(">")[0].split("=")[0].split("<")[0]
        if extra and extra != "dev" and name != "gentrain":
            found.setdefault(extra, []).append(name)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


CHECKS = (_versions, _device, _threads, _precision, _disk, _TensorBoard, _compiler, _extras)
