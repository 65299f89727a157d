"""What a figure was made with: hardware, versions, the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gentrain import __version__
from gentrain.training.distributed import World


def hardware(device: torch.device) -> str:
    """The device in words: a GPU's name, or the processor with its cores and torch's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''}"


def machine(device: torch.device) -> str:
    """What a run is trained on, whatever its threads: a GPU's name, or the processor with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of what decides figures: gentrain, Python, torch, torchvision, numpy."""
    packages = ("torch", "torchvision", "numpy")
    return {
        "gentrain": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def environment(device: torch.device, world: World) -> dict[str, Any]:
    """What, besides a run's state, decides the bits of its next step."""
    return {
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "numpy": version("numpy"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": world.size,
    }


def today() -> str:
    """The date, as 2026-01-31."""
    return date.today().isoformat()


def commit() -> str | None:
    """The commit of the checkout that this code runs from, with `-dirty` where files differ from it.

    None outside a checkout, as for an installed wheel.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, or not ours to read
        return None
    return done.stdout.strip()
