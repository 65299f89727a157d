"""The objectives against closed forms, torch's own losses and autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentrain.models.adversarial.objectives import OBJECTIVES, gradient_penalty, objective_named

REAL = torch.tensor([0.3, -2.0, 5.0, 0.0], dtype=torch.float64)
FAKE = torch.tensor([-0.7, 1.5, -4.0, 0.2], dtype=torch.float64)
PROBABILITIES = pytest.mark.parametrize("name", ["minimax", "nonsaturating"])


def bce(output: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, torch.full_like(output, target))


@PROBABILITIES
def test_the_discriminator_of_a_probability_minimises_the_cross_entropy(name: str) -> None:
    loss = objective_named(name).discriminator(REAL, FAKE)
    torch.testing.assert_close(loss, bce(REAL, 1) + bce(FAKE, 0))


def test_what_the_generators_of_a_probability_minimise() -> None:
    p = FAKE.sigmoid()
    torch.testing.assert_close(objective_named("minimax").generator(FAKE), (1 - p).log().mean())
    torch.testing.assert_close(objective_named("minimax").generator(FAKE), -bce(FAKE, 0))
    torch.testing.assert_close(objective_named("nonsaturating").generator(FAKE), -p.log().mean())
    torch.testing.assert_close(objective_named("nonsaturating").generator(FAKE), bce(FAKE, 1))


def test_lsgan_is_half_the_squared_distance_to_one_and_zero() -> None:
    loss = objective_named("lsgan").discriminator(REAL, FAKE)
    expected = F.mse_loss(REAL, torch.ones_like(REAL)) / 2 + F.mse_loss(FAKE, torch.zeros_like(FAKE)) / 2
    torch.testing.assert_close(loss, expected)
    expected = F.mse_loss(FAKE, torch.ones_like(FAKE)) / 2
    torch.testing.assert_close(objective_named("lsgan").generator(FAKE), expected)


def test_hinge_is_zero_beyond_its_margins() -> None:
    real, fake = REAL.tolist(), FAKE.tolist()
    by_hand = sum(max(0.0, 1 - r) for r in real) / 4 + sum(max(0.0, 1 + f) for f in fake) / 4
    assert objective_named("hinge").discriminator(REAL, FAKE).item() == pytest.approx(by_hand)
    far = torch.tensor([1.0, 7.0])
    assert objective_named("hinge").discriminator(far, -far) == 0
    assert objective_named("hinge").generator(FAKE).item() == pytest.approx(-FAKE.mean().item())


def test_wasserstein_is_the_difference_of_the_means() -> None:
    loss = objective_named("wgan_gp").discriminator(REAL, FAKE)
    assert loss.item() == pytest.approx(FAKE.mean().item() - REAL.mean().item())
    assert objective_named("wgan_gp").generator(FAKE).item() == pytest.approx(-FAKE.mean().item())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_point_where_the_player_gains(name: str) -> None:
    """D's raises its output for images and lowers it for fakes; G's raises it for fakes."""
    real, fake = (torch.full((3,), 0.1, requires_grad=True) for _ in range(2))
    up, down = torch.autograd.grad(objective_named(name).discriminator(real, fake), (real, fake))
    assert (up < 0).all()
    assert (down > 0).all()
    (gain,) = torch.autograd.grad(objective_named(name).generator(fake), fake)
    assert (gain < 0).all()


def test_only_minimax_leaves_a_losing_generator_without_gradient() -> None:
    """Goodfellow et al. 2014, section 3."""
    size = {}
    for name in OBJECTIVES:
        fake = torch.full((1,), -20.0, requires_grad=True)
        (gradient,) = torch.autograd.grad(objective_named(name).generator(fake), fake)
        size[name] = gradient.abs().item()
    assert size.pop("minimax") < 1e-8
    assert min(size.values()) > 0.99


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_outputs_stay_finite(name: str, extreme: float) -> None:
    real, fake = (torch.full((2,), value, requires_grad=True) for value in (extreme, -extreme))
    for loss in (objective_named(name).discriminator(real, fake), objective_named(name).generator(fake)):
        assert loss.isfinite()
        gradients = torch.autograd.grad(loss, [real, fake], materialize_grads=True)
        assert all(gradient.isfinite().all() for gradient in gradients)


@PROBABILITIES
def test_probabilities_are_what_is_logged(name: str) -> None:
    torch.testing.assert_close(objective_named(name).logged(REAL), REAL.sigmoid().mean())
    at_the_end = objective_named(name).discriminator(torch.zeros(2), torch.zeros(2))
    assert at_the_end.item() == pytest.approx(math.log(4))  # Goodfellow et al. 2014, theorem 1


@pytest.mark.parametrize("name", ["lsgan", "hinge", "wgan_gp"])
def test_outputs_are_logged_where_there_is_no_probability(name: str) -> None:
    torch.testing.assert_close(objective_named(name).logged(REAL), REAL.mean())


def test_an_unknown_objective_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"model\.objective must be one of minimax, .*wgan_gp, found 'wgan'"):
        objective_named("wgan")


def test_every_objective_has_its_name_in_one_place() -> None:
    assert list(OBJECTIVES) == ["minimax", "nonsaturating", "lsgan", "hinge", "wgan_gp"]
    assert [name for name, o in OBJECTIVES.items() if o.penalised] == ["wgan_gp"]
    assert objective_named("hinge") is OBJECTIVES["hinge"]


# The gradient penalty


class Linear(nn.Module):
    """D(x) = w . x, whose gradient is w everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_exact(norm: float) -> None:
    direction = F.normalize(torch.arange(1.0, 9.0, dtype=torch.float64), dim=0)
    critic = Linear(norm * direction)
    x, y = torch.randn(2, 5, 2, 2, 2, dtype=torch.float64)
    penalty = gradient_penalty(critic, x, y)
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-12)
    (gradient,) = torch.autograd.grad(penalty, critic.weight)
    torch.testing.assert_close(gradient, 2 * (norm - 1) * direction)  # d(|w| - 1)^2 / dw


class Half(nn.Module):
    """D(x) = a |x|^2 / 2 with gradient a x; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.detach())
        return self.a * x.flatten(1).square().sum(1) / 2


def test_the_penalty_is_at_points_between_each_image_and_its_fake() -> None:
    torch.manual_seed(0)
    critic = Half()
    x, y = torch.randn(2, 2000, 1, 2, 2, dtype=torch.float64)
    penalty = gradient_penalty(critic, x, y)
    (between,) = critic.asked
    shares = ((between - y) / (x - y)).flatten(1)  # e of each pixel
    e = shares.median(1, keepdim=True).values
    torch.testing.assert_close(shares, e.expand_as(shares), atol=1e-6, rtol=0)
    assert e.min() >= 0
    assert e.max() <= 1
    assert e.mean().item() == pytest.approx(0.5, abs=0.05)  # standard error 0.006
    assert e.var().item() == pytest.approx(1 / 12, abs=0.01)
    norms = between.flatten(1).norm(dim=1)  # per example, then the mean of the squares
    torch.testing.assert_close(penalty, (norms - 1).square().mean())


class Penalty(nn.Module):
    """The penalty as a function of the critic's parameters."""

    def __init__(self, net: nn.Module, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.net, self.x, self.y = net, x, y

    def forward(self) -> Tensor:
        return gradient_penalty(self.net, self.x, self.y)


def test_the_second_derivative_equals_finite_differences() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 1), nn.Flatten(0)).double()
    module = Penalty(net, *torch.randn(2, 3, 1, 2, 2, dtype=torch.float64))
    names = [name for name, _ in module.named_parameters()]

    def penalty(*values: Tensor) -> Tensor:
        torch.manual_seed(1)
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), ())

    inputs = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(penalty, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_penalty_is_float32_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    seen: list[torch.dtype] = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Softplus(), nn.Linear(4, 1), nn.Flatten(0))
    net[1].register_forward_hook(lambda _m, inputs, output: seen.extend([inputs[0].dtype, output.dtype]))
    x, y = torch.rand(3, 2, 2, 2), torch.rand(3, 2, 2, 2).to(dtype)
    torch.manual_seed(1)
    full = gradient_penalty(net, x, y.float())
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype):
        half = gradient_penalty(net, x, y)
    assert set(seen) == {torch.float32}
    assert half.dtype == torch.float32
    assert torch.equal(full, half)


def test_no_gradient_reaches_the_images() -> None:
    x, y = (torch.rand(2, 1, 2, 2, requires_grad=True) for _ in range(2))
    gradient_penalty(Linear(torch.ones(4)), x, y).backward()
    assert x.grad is None
    assert y.grad is None


def test_a_critic_without_slope_has_a_finite_gradient() -> None:
    """The norm has no derivative at 0; its subgradient there is 0."""
    critic = Linear(torch.zeros(4))
    penalty = gradient_penalty(critic, torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2))
    assert penalty == 1
    penalty.backward()
    assert critic.weight.grad is not None
    assert critic.weight.grad.isfinite().all()
