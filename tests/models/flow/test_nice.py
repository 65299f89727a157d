"""NICE: its prior, its order of values, and its loss by the paper's formulas."""

from __future__ import annotations

import pytest
import torch
from flows import check_transform, values, vivid
from torch.distributions import AffineTransform, Normal, SigmoidTransform, TransformedDistribution, Uniform

from gentrain.contracts import DataSpec
from gentrain.layers.logistic_prior import LogisticToNormal
from gentrain.layers.transform import Scale
from gentrain.models.flow.nice import NICE, EvenOdd

SMALL = {"couplings": 4, "hidden": [8, 8], "logit": None, "label_by": "none", "dequantisation": "uniform"}


def logistic(scale: float = 1.0) -> TransformedDistribution:
    uniform = Uniform(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
    return TransformedDistribution(uniform, [SigmoidTransform().inv, AffineTransform(0.0, scale)])


def test_latents_are_standard_normal_where_values_are_logistic() -> None:
    h = 3 * values(4, 5)
    eps, log_det = LogisticToNormal()(h)
    log_p = Normal(0.0, 1.0).log_prob(eps).sum(1) + log_det
    torch.testing.assert_close(log_p, logistic().log_prob(h).sum(1))
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(eps), torch.sigmoid(h))
    check_transform(LogisticToNormal(), h[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_tails_have_latents_a_density_and_gradients(dtype: torch.dtype) -> None:
    h = torch.tensor([[-600.0, -90.0, -20.0, 0.0, 20.0, 90.0, 600.0]], dtype=dtype, requires_grad=True)
    eps, log_det = LogisticToNormal()(h)
    assert eps.isfinite().all()
    assert (eps.diff() > 0).all()
    torch.testing.assert_close(eps, -eps.flip(1))
    (Normal(0.0, 1.0).log_prob(eps).sum(1) + log_det).sum().backward()
    assert h.grad is not None
    torch.testing.assert_close(h.grad, -torch.tanh(h.detach() / 2), rtol=1e-4, atol=1e-4)
    back = LogisticToNormal().inverse(eps.detach())
    torch.testing.assert_close(back, h.detach(), rtol=1e-3, atol=1e-5)


def test_a_scale_and_the_order_of_values_are_maps() -> None:
    check_transform(vivid(Scale(6)), values(3, 6))
    order = EvenOdd((1, 1, 5))
    assert order(torch.arange(5.0).view(1, 1, 1, 5))[0].tolist() == [[0, 2, 4, 1, 3]]
    check_transform(order, values(2, 1, 1, 5))


def test_the_density_is_the_papers() -> None:
    """log p(y) = sum log logistic(exp(s_i) f(y)_i) + s_i (equation 5 and section 3.3)."""
    torch.manual_seed(0)
    model = vivid(NICE(DataSpec((1, 2, 3), levels=5), **SMALL))  # type: ignore[arg-type]
    assert isinstance(model, NICE)
    y = torch.rand(4, 1, 2, 3, dtype=torch.float64)
    flat = y.flatten(1) - 0.5
    parts = [flat[:, ::2], flat[:, 1::2]]
    chain = model.transform.get_submodule("transforms.1.transforms")
    for i in range(4):
        of, to = (1, 0) if i % 2 == 0 else (0, 1)
        parts[to] = parts[to] + chain.get_submodule(f"{1 + i}.net")(parts[of])
    s = chain.get_submodule("5").log_scale
    h = torch.cat(parts, 1) * s.exp()
    expected = logistic().log_prob(h).sum(1) + s.sum()
    torch.testing.assert_close(sum(model.log_prob(y)), expected)


def test_an_untrained_map_keeps_every_value() -> None:
    model = NICE(DataSpec((1, 3, 3), levels=5), **SMALL)  # type: ignore[arg-type]
    y = torch.rand(2, 1, 3, 3)
    z, _ = model.to_latent(y)
    expected = Normal(0.0, 1.0).icdf(torch.sigmoid(y.flatten(1) - 0.5))
    torch.testing.assert_close(z.sort(1)[0], expected.sort(1)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("setting", "value"), [("couplings", 0), ("hidden", []), ("hidden", [4, 0])])
def test_settings_out_of_range_are_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"model\.{setting} must be at least 1, found"):
        NICE(DataSpec((1, 2, 2)), **{**SMALL, setting: value})  # type: ignore[arg-type]


def test_one_value_cannot_be_coupled() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        NICE(DataSpec((1, 1, 1)), **SMALL)  # type: ignore[arg-type]
