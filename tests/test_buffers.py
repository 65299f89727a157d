"""Which buffers move, and when."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from gentrain.buffers import buffers_kept, evaluating


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12)).train()


def test_inside_no_buffer_moves_and_the_output_is_that_of_training() -> None:
    module, x = net(), torch.randn(5, 2, 2, 2)
    before = copy.deepcopy(module.state_dict())
    with buffers_kept(module):
        inside = module(x)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(module(x), inside)
    after = module.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    buffers = {name for name, _ in module.named_buffers()}
    assert moved == buffers
    assert len(buffers) == 6


@pytest.mark.parametrize("spectral", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norms_vectors_and_replaced_buffers_stay_and_gradients_flow(spectral: Any) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(spectral(nn.Conv2d(2, 3, 1)), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 1))
    module.register_buffer("chain", torch.zeros(3))
    twin, x = copy.deepcopy(module), torch.randn(5, 2, 2, 2)
    before = copy.deepcopy(dict(module.named_buffers()))
    assert any(name.endswith(("_u", "weight_u")) for name in before)
    with buffers_kept(module):
        inside = module(x).square().mean()
        again = module(2 * x).square().mean()
        module.chain = torch.ones(3)
    (inside + again).backward()
    after = dict(module.named_buffers())
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    (twin(x).square().mean() + twin(2 * x).square().mean()).backward()
    assert any(not torch.equal(value, before[name]) for name, value in twin.named_buffers()), "without it"
    for one, other in zip(module.parameters(), twin.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_it_ends_with_an_error_too() -> None:
    module = nn.BatchNorm1d(2)
    with pytest.raises(RuntimeError, match="size"), buffers_kept(module):
        module(torch.randn(4, 2)) @ torch.randn(3)
    assert int(module.num_batches_tracked or 0) == 0


def test_in_eval_mode_it_changes_nothing() -> None:
    module, x = net(), torch.randn(5, 2, 2, 2)
    module(x)
    module.eval()
    outside = module(x)
    with buffers_kept(module):
        assert torch.equal(module(x), outside)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluating_and_back(mode: bool) -> None:
    module = net().train(mode)
    with pytest.raises(RuntimeError, match="inside"), evaluating(module):
        fail_unless_in_eval_mode(module)
    assert all(layer.training is mode for layer in module.modules())


def fail_unless_in_eval_mode(module: nn.Module) -> None:
    raise RuntimeError("outside" if any(layer.training for layer in module.modules()) else "inside")
