"""Running a network without touching what it remembers: running means, power iterations, chains, pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def buffers_kept(*nets: nn.Module) -> Iterator[None]:
    """Context in which whatever is done to the buffers of `nets`, written or replaced, is undone in the end.

    For a network that is used in another's update, or looked at: BatchNorm normalises with the batch at hand
    as always in training mode, spectral norm takes its power iteration, and neither remembers it. Gradients
    of what was computed inside can be taken outside.
    """
    kept = [
        (module, name, buffer, buffer.clone())
        for net in nets
        for module in net.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in kept:
            # By way of `data`: autograd has saved the running means that BatchNorm was given, though it needs
            # them in eval mode alone, where they do not change, and would refuse them as modified.
            buffer.data.copy_(value)
            setattr(module, name, buffer)


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Context in which `nets` are in eval mode: no dropout, and BatchNorm keeps its running statistics."""
    training = [module for net in nets for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def batch_norms(net: nn.Module) -> list[_BatchNorm]:
    """The layers of `net` that keep running means and variances to normalise with."""
    return [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


@contextmanager
def momentum(norms: Sequence[_BatchNorm], changed: Callable[[float | None], float | None]) -> Iterator[None]:
    """Context in which a batch counts in the running statistics as `changed` makes of each momentum.

    None: a mean over all batches.
    """
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = changed(norm.momentum)
    try:
        yield
    finally:
        for norm, value in zip(norms, kept, strict=True):
            norm.momentum = value
