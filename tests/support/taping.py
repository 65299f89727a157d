"""What a CUDA graph does, on the CPU: operations recorded with their tensors and numbers, and done again.

Like a graph, a tape does the same operations on the same memory: a plain number stays what it was, nothing of
Python runs again, and reading a number from a tensor while recording is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations that write to arguments without saying so.
SILENT = {"native_batch_norm": ("running_mean", "running_var")}
#: Operations that wait for the device.
READS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select")


def tensors(nested: Any) -> list[Tensor]:
    """Those in lists, tuples and dictionaries, in order."""
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]


class Recorder(TorchDispatchMode):
    """Records what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # of each storage: a tensor over all of it, a copy

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in READS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        written = [a for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        for argument in (*(a.name for a in written), *SILENT.get(name, ())):
            for tensor in tensors(named.get(argument)):
                self.remember(tensor)
        out = func(*args, **kwargs)
        returns = func._schema.returns
        is_view = not written and any(r.alias_info is not None for r in returns)
        if not is_view and not func._schema.name.startswith("profiler::"):  # a view stays where it is
            made = [] if written else tensors(out)
            self.done.append((func, args, kwargs, made))
        return out

    def remember(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.before and storage.nbytes():
            whole = torch.empty(0, dtype=torch.uint8).set_(storage)
            self.before[storage.data_ptr()] = (whole, whole.clone())


class Tape:
    """The `Capture` of the CPU, in place of CUDA's."""

    warmed = captured = replayed = 0  # in all, since `fresh`

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def warm_up(self, run: Callable[[], None]) -> None:
        Tape.warmed += 1
        run()

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        Tape.captured += 1
        random = torch.get_rng_state()
        with Recorder() as recorder:
            run()
        torch.set_rng_state(random)
        for whole, copy in recorder.before.values():
            whole.copy_(copy)

        @torch.no_grad()
        def replay() -> None:
            Tape.replayed += 1
            for func, args, kwargs, made in recorder.done:
                out = func(*args, **kwargs)
                for place, tensor in zip(made, tensors(out), strict=False):
                    place.copy_(tensor)

        return replay


def fresh() -> type[Tape]:
    """The class, its counters at zero."""
    Tape.warmed = Tape.captured = Tape.replayed = 0
    return Tape
