"""Learnt noise between the levels: its density by autograd, its mass, where it starts."""

from __future__ import annotations

import pytest
import torch
from flows import values, vivid

from gentrain.layers.dequantiser import Dequantiser


def made(channels: int = 1, std: float = 0.2) -> Dequantiser:
    torch.manual_seed(0)
    module = vivid(Dequantiser(channels), std=std)
    assert isinstance(module, Dequantiser)
    return module


def test_it_starts_uniform() -> None:
    torch.manual_seed(0)
    u, log_q = Dequantiser(2)(torch.randn(500, 2, 4, 4))
    assert not log_q.any()
    assert u.mean().item() == pytest.approx(0.5, abs=0.01)
    assert u.var().item() == pytest.approx(1 / 12, abs=0.005)


def test_its_density_is_that_of_the_change_of_variables() -> None:
    module, x = made(2), values(1, 2, 2, 2)
    torch.manual_seed(3)
    u, log_q = module(x)
    torch.manual_seed(3)
    first = torch.rand_like(x)  # uniform: density 1

    def moved(start: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(module.couplings(torch.logit(start), x)[0])

    torch.testing.assert_close(moved(first), u)
    jacobian = torch.autograd.functional.jacobian(moved, first).view(8, 8)
    torch.testing.assert_close(log_q, -torch.linalg.slogdet(jacobian).logabsdet[None])
    assert log_q.abs() > 0.01


def test_its_mass_is_one_and_it_sees_the_image() -> None:
    module = made(std=0.06)
    torch.manual_seed(0)
    with torch.no_grad():
        for x in (torch.full((20_000, 1, 2, 2), -1.0), torch.full((20_000, 1, 2, 2), 1.0)):
            u, log_q = module(x.double())
            assert ((u >= 0) & (u < 1)).all()
            weights = (-log_q).exp()  # E_q 1/q is the volume of the cube
            assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / 20_000**0.5)
    seeing = made()
    with torch.no_grad():
        means = [seeing(torch.full((4000, 1, 2, 2), v).double())[0].mean() for v in (-1.0, 1.0)]
    assert abs(means[0] - means[1]) > 0.02
