"""Which BatchNorm buffers move, and when."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gentrain.layers.batchnorm import evaluating, running_statistics_kept


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12)).train()


def test_inside_no_buffer_moves_and_the_output_is_that_of_training() -> None:
    module, x = net(), torch.randn(5, 2, 2, 2)
    before = copy.deepcopy(module.state_dict())
    with running_statistics_kept(module):
        inside = module(x)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(module(x), inside)
    after = module.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    buffers = {name for name, _ in module.named_buffers()}
    assert moved == buffers
    assert len(buffers) == 6


def test_it_ends_with_an_error_too_and_spares_layers_that_never_track() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(RuntimeError, match="inside"), running_statistics_kept(module):
        raise RuntimeError("inside")
    assert [layer.track_running_stats for layer in module] == [True, False]


def test_in_eval_mode_it_changes_nothing() -> None:
    module, x = net(), torch.randn(5, 2, 2, 2)
    module(x)
    module.eval()
    outside = module(x)
    with running_statistics_kept(module):
        assert torch.equal(module(x), outside)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluating_and_back(mode: bool) -> None:
    module = net().train(mode)
    with pytest.raises(RuntimeError, match="inside"), evaluating(module):
        fail_unless_in_eval_mode(module)
    assert all(layer.training is mode for layer in module.modules())


def fail_unless_in_eval_mode(module: nn.Module) -> None:
    raise RuntimeError("outside" if any(layer.training for layer in module.modules()) else "inside")
