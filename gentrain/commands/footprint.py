"""What a run will take of memory and disk, before it takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gentrain.building import build_optimizer
from gentrain.contracts import Batch, Turn
from gentrain.training import checkpoint
from gentrain.training.precision import Precision
from gentrain.training.trainer import Trainer

#: Images that activations are measured on, where a micro-batch has more: they grow with it along a line.
MEASURED = (4, 8)


@dataclass(frozen=True)
class Footprint:
    """Bytes, of one process."""

    weights: int
    gradients: int
    optimiser: int
    average: int
    #: What a turn's loss keeps for its backward pass, on one micro-batch; of the turn that keeps most.
    activations: int

    def in_words(self) -> str:
        """`weights 1.0, gradients ...`, in MiB."""
        return ", ".join(f"{f.name} {getattr(self, f.name) / 2**20:.1f}" for f in fields(self))

    @property
    def memory(self) -> int:
        """All of it."""
        return sum(getattr(self, f.name) for f in fields(self))

    @property
    def checkpoint(self) -> int:
        """What a checkpoint holds."""
        return self.weights + self.optimiser + self.average


def footprint(config: DictConfig, trainer: Trainer, precision: Precision) -> Footprint:
    """Of a run that has not begun; its model is not to be trained afterwards.

    Activations are measured by running the losses, in one process alone: in several, layers may wait for one
    another, and activations count as nothing.
    """
    updates = [update for update in trainer.steps.updates if update.turn.shares is None]
    trained = [parameter for update in trainer.steps.updates for parameter in update.parameters]
    batch = trainer.batches.at(0).split(config.train.accumulate)[0]
    alone = trainer.world.size == 1
    trainer.model.train()
    return Footprint(
        weights=checkpoint.bytes_of(trainer.model.state_dict()),
        gradients=checkpoint.bytes_of(list({id(p): p for p in trained}.values())),
        optimiser=sum(_optimiser(config, update.turn, update.parameters) for update in updates),
        average=checkpoint.bytes_of(trainer.steps.ema.model.state_dict()) if trainer.steps.ema else 0,
        activations=max(activations(u.turn, batch, precision) for u in trainer.steps.updates) if alone else 0,
    )


def _optimiser(config: DictConfig, turn: Turn, parameters: Sequence[nn.Parameter]) -> int:
    """Bytes of the state that the turn's optimiser will keep for `parameters`: as it does for a small one."""
    probe = nn.Parameter(torch.zeros(32, 32, device=parameters[0].device, dtype=parameters[0].dtype))
    probe.grad = torch.zeros_like(probe)
    optimizer = build_optimizer(config.optim[turn.name], turn.name, [probe], list(config.trust))
    optimizer.step()
    state = [value for value in optimizer.state[probe].values() if isinstance(value, Tensor)]
    of_its_size = checkpoint.bytes_of([value for value in state if value.numel() == probe.numel()])
    return of_its_size * sum(p.numel() for p in parameters) // probe.numel()


def activations(turn: Turn, batch: Batch, precision: Precision) -> int:
    """Bytes that the turn's loss keeps of `batch` for its backward pass."""
    images = len(batch.x)
    if images <= MEASURED[-1]:
        return _kept(turn, batch, precision)
    few, more = (
        _kept(turn, batch.map(lambda part, n=n: part[:n]), precision)  # type: ignore[misc]
        for n in MEASURED
    )
    slope = (more - few) / (MEASURED[1] - MEASURED[0])
    return round(more + slope * (images - MEASURED[1]))


def _kept(turn: Turn, batch: Batch, precision: Precision) -> int:
    """What is kept for the backward pass, each storage once; parameters and buffers are there anyhow."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address comes twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), precision.autocast():
        turn.loss(batch, 0)
    there = [tensor for net in turn.nets for tensor in (*net.parameters(), *net.buffers())]
    for tensor in there:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(kept.values())
