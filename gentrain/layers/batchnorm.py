"""Running BatchNorm without touching what it remembers (Ioffe & Szegedy 2015, arXiv:1502.03167)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running_statistics_kept(*nets: nn.Module) -> Iterator[None]:
    """Context in which the BatchNorm layers of `nets` in training mode change none of their buffers.

    They normalise with the batch's own mean and variance, as always in training, but neither the running
    mean and variance nor the count of batches moves. For a network that is used in another's update.
    Layers in eval mode work as always.
    """
    tracking = [
        m for net in nets for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats
    ]
    for layer in tracking:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in tracking:
            layer.track_running_stats = True


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Context in which `net` is in eval mode: BatchNorm uses its running statistics and keeps them."""
    mode = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(mode)
