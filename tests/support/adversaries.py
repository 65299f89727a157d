"""Every kind of adversarial model, small; a new one joins with a line in `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gans import GAME
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gentrain.contracts import (
    Batch,
    Conditional,
    DataSpec,
    ImagesToLatents,
)
from gentrain.layers.condition import ConditionVector
from gentrain.models.adversarial.adversarial import Adversarial
from gentrain.models.adversarial.bigan import BiGAN
from gentrain.models.adversarial.biggan import BigGAN
from gentrain.models.adversarial.cgan import CGAN
from gentrain.models.adversarial.game import Contest
from gentrain.models.adversarial.gan import GAN
from gentrain.models.adversarial.infogan import InfoGAN
from gentrain.models.adversarial.sngan import SNGAN

SPEC = DataSpec((1, 8, 8), levels=17, classes=3)
SETTINGS: dict[str, Any] = {"latent_dim": 5, **GAME}


def to_image(features: int) -> nn.Sequential:
    """[B, features] -> [B, 1, 8, 8] in [-1, 1]."""
    layers = [nn.Linear(features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 64), nn.Tanh()]
    return nn.Sequential(*layers, nn.Unflatten(1, SPEC.shape))


def to_output(features: int) -> nn.Sequential:
    """[B, features] -> [B]."""
    return nn.Sequential(nn.Linear(features, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Flatten(0))


class WithLabel(nn.Module):
    """A network that is given a label beside its input."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.vector = net, ConditionVector(3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([x.flatten(1), self.vector(y, x.dtype)], 1))


class OfClasses(Adversarial, Conditional):
    """G(z, y) against D(x, y)."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator = WithLabel(to_image(self.latent_dim + 3))
        self.discriminator = WithLabel(
            nn.Sequential(nn.Linear(64 + 3, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Flatten(0))
        )


class Pairs(nn.Module):
    """D(x, z)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = to_output(64 + 5)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.net(torch.cat([x.flatten(1), z], 1))


class OfPairs(Adversarial, ImagesToLatents):
    """(x, E(x)) against (G(z), z), as a BiGAN has them; the encoder moves in the generator's turn."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator, self.discriminator = to_image(5), Pairs()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5)
        )

    def players(self) -> dict[str, list[nn.Module]]:
        return {"discriminator": [self.discriminator], "generator": [self.generator, self.encoder]}

    def contestants(self, batch: Batch) -> Contest:
        x, z = self.scaled(batch.x), self._prior_draws(len(batch.x))
        return Contest((x, self.encoder(x)), (self.generator(z), z), (z,))

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        if turn == "discriminator":
            return None, {}
        return -self.judged(contest.real).mean(), {}

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        return self.encoder(self.scaled(x))


class OfCodes(Adversarial):
    """Another network finds a part of z again, as an InfoGAN's does."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator = to_image(5)
        self.discriminator = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Flatten(0)
        )
        self.finder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def players(self) -> dict[str, list[nn.Module]]:
        return {"discriminator": [self.discriminator], "generator": [self.generator, self.finder]}

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        if turn == "discriminator":
            return None, {}
        error = (self.finder(contest.fake[0]) - contest.drawn[0][:, :2]).square().mean()
        return error, {"code": error.detach()}


class Spectral(Adversarial):
    """A discriminator whose layers remember a power iteration."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator = to_image(5)
        first, last = spectral_norm(nn.Linear(64, 16)), spectral_norm(nn.Linear(16, 1))
        self.discriminator = nn.Sequential(nn.Flatten(), first, nn.LeakyReLU(), last, nn.Flatten(0))


def gan(**more: Any) -> Callable[..., Adversarial]:
    plain = {
        "network": "dcgan",
        "channels": 4,
        "dense": 0,
        "hidden": [8],
        "norm": "auto",
        "generator_norm": "auto",
    }
    return lambda spec, **settings: GAN(spec, **{**plain, **settings, **more})


def sngan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"channels": 4, "discriminator_channels": 4, "growth": 1, "spectral": True, "objective": "hinge"}
    return lambda spec, **settings: SNGAN(spec, **{**settings, **plain, **more})


def cgan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"label_by": "concatenation", "network": "auto", "channels": 4, "dense": 0, "hidden": [8]}
    return lambda spec, **settings: CGAN(spec, **{**settings, **plain, **more})


def infogan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"codes": ["digit:3", "slant", "kind:2"], "info_weight": 1.0, "channels": 4, "dense": 6}
    plain |= {"uniform_weight": 0.5}
    return lambda spec, **settings: InfoGAN(spec, **{**settings, **plain, **more})


def bigan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"network": "mlp", "hidden": [12, 10], "channels": 4, "dense": 6}
    return lambda spec, **settings: BiGAN(spec, **{**settings, **plain, **more})


def biggan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"channels": 4, "discriminator_channels": 4, "growth": 1, "shared": 3, "attention": 4}
    plain |= {"orthogonal_weight": 1e-3, "start": "orthogonal", "objective": "hinge", "latent_dim": 6}
    return lambda spec, **settings: BigGAN(spec, **{**settings, **plain, **more})


#: All that every member can do, on.
EVERYTHING = {"augment": ["colour", "translation", "cutout"], "r1_weight": 1.0, "r1_every": 2}
MODELS: dict[str, Callable[..., Adversarial]] = {
    "dcgan": gan(),
    "mlp": gan(network="mlp"),
    "wgan_gp": gan(objective="wgan_gp", n_critic=2, latent="uniform"),
    "dcgan, everything": gan(**EVERYTHING),
    "sngan": sngan(),
    "sngan, everything": sngan(**EVERYTHING),
    "cgan": cgan(**EVERYTHING),
    "cgan, mlp": cgan(network="mlp"),
    "cgan, projection": cgan(label_by="projection", objective="hinge"),
    "cgan, residual, wgan_gp": cgan(network="residual", objective="wgan_gp"),
    "infogan": infogan(),
    "infogan, everything": infogan(**EVERYTHING, latent="uniform"),
    "infogan, wgan_gp": infogan(objective="wgan_gp"),
    "bigan": bigan(latent="uniform"),
    "bigan, dcgan": bigan(network="dcgan", **EVERYTHING),
    "bigan, wgan_gp": bigan(objective="wgan_gp"),
    "biggan": biggan(),
    "biggan, everything": biggan(**EVERYTHING, start="normal"),
    "of classes": OfClasses,
    "of classes, wgan_gp": lambda spec, **settings: OfClasses(spec, **{**settings, "objective": "wgan_gp"}),
    "of pairs": OfPairs,
    "of codes": OfCodes,
    "spectral": Spectral,
    "spectral, wgan_gp": lambda spec, **settings: Spectral(spec, **{**settings, "objective": "wgan_gp"}),
}
#: Those of p(x|y).
CONDITIONAL = [name for name in MODELS if name.startswith(("of classes", "cgan", "biggan"))]
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> Adversarial:
    torch.manual_seed(0)
    return MODELS[name](SPEC, **SETTINGS)


def batch(n: int = 6) -> Batch:
    g = torch.Generator().manual_seed(1)
    return Batch(torch.randint(0, 17, (n, 1, 8, 8), generator=g, dtype=torch.uint8), torch.arange(n) % 3)
