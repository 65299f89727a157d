"""What a GAN logs of its game, and when it warns."""

from __future__ import annotations

import math

import pytest
import torch
from gans import ALL, batch, gan, scaled
from torch import Tensor, nn

from gentrain.models.adversarial.game import COLLAPSED


@ALL
def test_logged_terms_by_hand(objective: str) -> None:
    model = gan(objective=objective)
    x = scaled(batch().x)
    torch.manual_seed(1)
    loss, terms = model.discriminator_loss(batch(), 0)
    torch.manual_seed(1)
    fake = model.generator(torch.randn(8, 6))
    squash = torch.sigmoid if objective in ("minimax", "nonsaturating") else torch.nn.Identity()
    torch.testing.assert_close(terms["d_real"], squash(model.discriminator(x)).mean())
    torch.testing.assert_close(terms["d_fake"], squash(model.discriminator(fake)).mean())
    assert set(terms) == {"d_real", "d_fake"} | ({"penalty"} if objective == "wgan_gp" else set())
    if objective == "wgan_gp":
        torch.testing.assert_close(loss, terms["d_fake"] - terms["d_real"] + 10 * terms["penalty"])
    torch.manual_seed(1)
    _, terms = model.generator_loss(batch(), 0)
    assert set(terms) == {"diversity"}
    expected = (fake.var(0, correction=0).sqrt().mean() / x.var(0, correction=0).sqrt().mean()).detach()
    torch.testing.assert_close(terms["diversity"], expected)


def test_diversity_of_images_themselves_is_one_and_of_one_image_zero() -> None:
    model = gan()
    real = batch(n=64)

    class Fixed(nn.Module):
        def __init__(self, images: Tensor) -> None:
            super().__init__()
            self.images, self.weight = images, nn.Parameter(torch.zeros(()))

        def forward(self, z: Tensor) -> Tensor:
            return self.images[: len(z)] + self.weight

    for images, expected in ((scaled(real.x), 1.0), (scaled(real.x[:1]).expand(64, -1, -1, -1), 0.0)):
        model.generator = Fixed(images)
        assert model.generator_loss(real, 0)[1]["diversity"].item() == pytest.approx(expected, abs=1e-6)
    two = scaled(real.x[:2]).repeat(32, 1, 1, 1)  # what the limit is chosen against
    model.generator = Fixed(two)
    assert model.generator_loss(real, 0)[1]["diversity"] > 2 * COLLAPSED


def test_examining_gives_the_diversity_of_samples_and_nothing_where_images_are_alike() -> None:
    model = gan().eval()
    real = batch(n=64)
    torch.manual_seed(1)
    expected = (
        scaled(model.sample(64)).std(0, correction=0).mean() / scaled(real.x).std(0, correction=0).mean()
    )
    torch.manual_seed(1)
    assert model.examine(real) == {"diversity": expected}
    assert model.examine(batch(n=1)) == {}


def figures(d_real: float = 0.6, d_fake: float = 0.4, diversity: float = 0.9) -> dict[str, float]:
    return {
        "loss/discriminator/d_real": d_real,
        "loss/discriminator/d_fake": d_fake,
        "loss/generator/diversity": diversity,
    }


@pytest.mark.parametrize(
    ("objective", "won", "fine"),
    [
        ("minimax", (0.995, 0.005), [(0.98, 0.005), (0.995, 0.02)]),
        ("nonsaturating", (0.995, 0.005), [(0.98, 0.005), (0.995, 0.02)]),
        ("lsgan", (0.995, 0.005), [(0.98, 0.005), (0.995, 0.02)]),
        ("hinge", (1.6, -1.6), [(1.0, -1.6), (1.6, -1.0)]),
    ],
)
def test_a_discriminator_that_has_won_is_warned_of(
    objective: str, won: tuple[float, float], fine: list[tuple[float, float]]
) -> None:
    model = gan(objective=objective)
    (warning,) = model.warnings(figures(*won))
    assert "optim.discriminator.lr" in warning
    assert "model.objective=wgan_gp" in warning
    assert "\n" not in warning
    for d_real, d_fake in fine:
        assert model.warnings(figures(d_real, d_fake)) == []


def test_a_collapsed_generator_is_warned_of() -> None:
    """One whose samples were diverse; at the start no generator's are."""
    model = gan()
    for start in (0.02, math.nan, 0.2, 0.49, 0.2):
        assert model.warnings(figures(diversity=start)) == []
    for healthy in (0.6, 1.1 * COLLAPSED):
        assert model.warnings(figures(diversity=healthy)) == []
    (warning,) = model.warnings(figures(diversity=0.9 * COLLAPSED))
    assert "collapsed" in warning
    assert "optim.generator.lr" in warning
    assert model.warnings(figures(diversity=0.01)) == [warning], "the same line, which is shown once"
    assert len(model.warnings(figures(0.999, 0.001, 0.01))) == 2


def test_no_warning_without_reason() -> None:
    """Nor without the generator's turn (n_critic), with one image a batch, or for a critic without bound."""
    assert gan().warnings({}) == []
    assert gan().warnings({"loss/discriminator/d_real": 0.5, "loss/discriminator/d_fake": 0.5}) == []
    assert gan().warnings(figures(math.nan, math.nan, math.nan)) == []
    assert gan(objective="wgan_gp").warnings(figures(100.0, -100.0)) == []
    assert gan().generator_loss(batch(n=2), 0)[1]["diversity"].isfinite()
