"""Seeing that losses write buffers in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gentrain.errors import UserError


class WrittenInPlace:
    """Sees that losses write the buffers of a model in place.

    The average, the ranks and captured steps know a buffer as the tensor that it was at the first step.

    Args:
        model: on its device, initialised.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = type(model).__name__
        self._places = [(place, module._buffers) for place, module in model.named_modules()]
        self._owners = [owner for _, owner in self._places]
        self._known = [(owner, name, buffer) for owner in self._owners for name, buffer in owner.items()]

    @property
    def shared(self) -> list[Tensor]:
        """Those that ranks may come to differ in: statistics and chains, not masks and counters."""
        buffers = [buffer for _, _, buffer in self._known if buffer is not None]
        return [b for b in buffers if b.is_floating_point() or (b.ndim and b.dtype != torch.bool)]

    def check(self) -> None:
        """Refuse a buffer that is another tensor than it was. Asked in every step, so it is quick.

        Raises:
            UserError: names it, and what to write instead.
        """
        none_new = sum(map(len, self._owners)) == len(self._known)
        if none_new and all(owner.get(name) is buffer for owner, name, buffer in self._known):
            return
        known = {(id(owner), name): buffer for owner, name, buffer in self._known}
        for place, owner in self._places:
            for name, buffer in owner.items():
                if known.get((id(owner), name)) is not buffer:
                    path = f"{place}.{name}" if place else name
                    raise UserError(
                        f"{self._model}: a loss has replaced the buffer {path} by another tensor; write it "
                        f"in place, self.{path}.copy_(...), and register it in the constructor"
                    )
