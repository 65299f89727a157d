"""What is NADE's own: its gradients without autograd, and its settings."""

from __future__ import annotations

import pytest
import torch
from enumerating import images
from torch import Tensor

from gentrain.contracts import DataSpec
from gentrain.models.autoregressive import nade as module
from gentrain.models.autoregressive.nade import NADE


def made(spec: DataSpec, **more: object) -> NADE:
    torch.manual_seed(0)
    settings = {"hidden": 7, "activation": "relu", "order": "raster", "order_seed": 0}
    return NADE(spec, **settings | more).double()  # type: ignore[arg-type]


def by_the_paper(model: NADE, v: Tensor) -> Tensor:
    """[B, D, P]: one hidden layer for each value, and autograd."""
    f = torch.relu if model.rectified else torch.sigmoid
    made = []
    for i in range(v.shape[1]):
        h = f(model.hidden_bias + v[:, :i] @ model.encoder[:i])
        made.append(model.bias[i] + h @ model.decoder[i].t())
    return torch.stack(made, 1)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("kept", [1, 4, 100])
def test_outputs_and_gradients_are_those_of_autograd(
    monkeypatch: pytest.MonkeyPatch, activation: str, levels: int, kept: int
) -> None:
    monkeypatch.setattr(module, "KEPT_EVERY", kept)
    spec = DataSpec((2, 3, 3), levels=levels)
    model = made(spec, activation=activation)
    v = torch.rand(5, spec.dims, dtype=torch.float64, requires_grad=True)
    out, oracle = model.outputs(v), by_the_paper(model, v)
    torch.testing.assert_close(out, oracle)
    weights = torch.randn_like(out)
    of = [v, *model.parameters()]
    ours = torch.autograd.grad((out * weights).sum(), of)
    for mine, theirs in zip(ours, torch.autograd.grad((oracle * weights).sum(), of), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_step_does_not_keep_a_hidden_layer_for_each_value() -> None:
    model = made(DataSpec((1, 16, 16), levels=2), hidden=8)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        model._log_prob(images(model.spec, 50)).sum()
    assert sum(kept) < 50 * 256 * 8


@pytest.mark.parametrize(("setting", "value"), [("hidden", 0), ("activation", "tanh"), ("order", "columns")])
def test_settings_out_of_range_are_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"model\.{setting} must be .*found '?{value}"):
        made(DataSpec((1, 3, 3), levels=2), **{setting: value})
