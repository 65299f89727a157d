"""What tests of invertible maps share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def vivid(module: nn.Module, std: float = 0.3, seed: int = 0) -> nn.Module:
    """The module in float64 with noise on all its parameters: what starts at zero would hide mistakes."""
    g = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p += std * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return module


def values(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobian_log_det(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det df/dx| of each x [B, ...] by autograd, [B]."""
    found = []
    for one in x:
        jacobian = torch.autograd.functional.jacobian(lambda t: f(t[None])[0].flatten(), one)
        found.append(torch.linalg.slogdet(jacobian.flatten(1)).logabsdet)
    return torch.stack(found)


def check_transform(transform: nn.Module, x: Tensor) -> None:
    """Both round trips within 1e-9 and the log-determinant within 1e-6 of autograd's, for x in float64."""
    assert x.dtype == torch.float64
    with torch.no_grad():
        y, log_det = transform(x)
        assert log_det.shape == (len(x),)
        assert (transform.inverse(y) - x).abs().max() < 1e-9
        z = values(*y.shape, seed=9)
        assert (transform(transform.inverse(z))[0] - z).abs().max() < 1e-9
    expected = jacobian_log_det(lambda t: transform(t)[0], x)
    torch.testing.assert_close(log_det, expected, atol=1e-6, rtol=0)
