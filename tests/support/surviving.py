"""What every model survives: other dtypes, copies, evaluation mode, autocast."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gentrain.contracts import Batch, GenerativeModel


def loss_of(model: GenerativeModel, batch: Batch, seed: int = 3) -> Tensor:
    """The loss, with the noise of `seed`."""
    torch.manual_seed(seed)
    return model.loss(batch, 0)[0]


def survives(build: Callable[[], GenerativeModel], batch: Batch, rel: float = 0.02) -> None:
    """Assert that `build()` keeps its loss through copies and precisions, and all its parameters learn."""
    torch.manual_seed(0)
    model = build()
    loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    whole = loss_of(model, batch)
    assert whole.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(model, batch)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(whole.item(), rel=rel)
    half.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    twin = copy.deepcopy(model)
    torch.manual_seed(9)
    other = build()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    for same in (twin, other):
        assert torch.equal(loss_of(same, batch), whole)
    double = twin.double().eval()
    assert loss_of(double, batch).dtype == torch.float64
