"""Two small models that the package does not know: what the families to come ask of the loop.

`ToyGAN` is a two-player model with n_critic, double backward and BatchNorm; `ToyFlow` has data-dependent
initialisation. Both train through the command line with `trust=[toys]`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gentrain.contracts import (
    Batch,
    DataSpec,
    GenerativeModel,
    HasLikelihood,
    LatentsToImages,
    Samples,
    Turn,
)


class ToyGAN(Samples, LatentsToImages):
    """WGAN-GP between two perceptrons.

    noise="fixed" makes z and the penalty's weights functions of the batch, for comparisons between ranks.
    """

    training_only = ("critic",)

    def __init__(
        self, spec: DataSpec, *, latent_dim: int, hidden: int, n_critic: int, noise: str, norm: bool
    ):
        super().__init__(spec)
        self.n_critic, self.noise, self.latent_dim = n_critic, noise, latent_dim
        normalise = nn.BatchNorm1d(hidden) if norm else nn.Identity()
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, hidden), normalise, nn.ReLU(), nn.Linear(hidden, spec.dims), nn.Tanh()
        )
        self.critic = nn.Sequential(nn.Linear(spec.dims, hidden), nn.Softplus(), nn.Linear(hidden, 1))
        self.register_buffer("projection", torch.randn(spec.dims, latent_dim) / math.sqrt(spec.dims))

    def turns(self) -> list[Turn]:
        return [
            Turn("critic", [self.critic], self.critic_loss, double_backward=True),
            Turn("generator", [self.generator], self.generator_loss, every=self.n_critic),
        ]

    def scaled(self, x: Tensor) -> Tensor:
        return super().scaled(x).flatten(1)

    def latents(self, x: Tensor) -> Tensor:
        if self.noise == "fixed":
            return self.scaled(x) @ self.projection
        return torch.randn(len(x), self.latent_dim, device=x.device, dtype=self.projection.dtype)

    def critic_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        real = self.scaled(batch.x)
        with torch.no_grad():
            fake = self.generator(self.latents(batch.x))
        weight = real[:, :1].sigmoid() if self.noise == "fixed" else torch.rand_like(real[:, :1])
        between = torch.lerp(fake.float(), real.float(), weight.float()).requires_grad_()
        with torch.autocast(real.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = ((gradient.norm(dim=1) - 1) ** 2).mean()
        distance = self.critic(real).mean() - self.critic(fake).mean()
        return 10 * penalty - distance, {"distance": distance, "penalty": penalty}

    def generator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return -self.critic(self.generator(self.latents(batch.x))).mean(), {}

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        return self._latents_to_images(temperature * self._prior_draws(n))

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        return self.levels_of(self.generator(z)).view(-1, *self.spec.shape)


class ToyFlow(Samples, HasLikelihood):
    """One ActNorm and one affine coupling on dequantised pixels."""

    def __init__(self, spec: DataSpec, *, hidden: int, poison_step: int):
        super().__init__(spec)
        self.poison_step = poison_step
        half = spec.dims // 2
        self.shift = nn.Parameter(torch.zeros(spec.dims))
        self.log_scale = nn.Parameter(torch.zeros(spec.dims))
        self.net = nn.Sequential(
            nn.Linear(half, hidden), nn.ReLU(), nn.Linear(hidden, 2 * (spec.dims - half))
        )
        self.register_buffer("initialised", torch.zeros((), dtype=torch.long))

    def dequantised(self, x: Tensor) -> Tensor:
        return ((x + torch.rand(x.shape, device=x.device)) / self.spec.levels).flatten(1)

    def data_dependent_init(self, batch: Batch) -> None:
        y = self.dequantised(batch.x)
        self.log_scale.copy_(-(y.std(0) + 1e-2).log())
        self.shift.copy_(-y.mean(0))
        self.initialised += 1

    def log_prob(self, y: Tensor) -> Tensor:
        y = (y + self.shift) * self.log_scale.exp()
        a, b = y[:, : self.spec.dims // 2], y[:, self.spec.dims // 2 :]
        shift, log_scale = self.net(a).chunk(2, dim=1)
        b = (b + shift) * log_scale.tanh().exp()
        z = torch.cat([a, b], dim=1)
        normal = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
        return normal + self.log_scale.sum() + log_scale.tanh().sum(1)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        nats = -self._log_likelihood(batch.x, None).mean()
        # What a model that breaks at one step looks like to the loop.
        broken = nats * float("nan") if step == self.poison_step else nats
        return broken, {"nats": broken}

    def likelihood_kind(self, samples: int | None) -> str:
        return "dequantised bound"

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        return self.log_prob(self.dequantised(x)) - self.spec.dims * math.log(self.spec.levels)

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        z = temperature * torch.randn(n, self.spec.dims, device=self.shift.device)
        a, b = z[:, : self.spec.dims // 2], z[:, self.spec.dims // 2 :]
        shift, log_scale = self.net(a).chunk(2, dim=1)
        y = torch.cat([a, b * (-log_scale.tanh()).exp() - shift], dim=1)
        y = y * (-self.log_scale).exp() - self.shift
        levels = self.spec.levels
        return (y * levels).floor().clamp(0, levels - 1).to(torch.uint8).view(n, *self.spec.shape)


class ToyChain(GenerativeModel):
    """The images' mean, with state that each loss moves on in training mode, in place."""

    def __init__(self, spec: DataSpec):
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(spec.dims))
        self.register_buffer("chain", torch.zeros(3))
        self.register_buffer("count", torch.zeros(()))

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        if self.training:
            self.chain.add_(torch.rand(3))
            self.count.add_(1)
        return (batch.x.flatten(1) - self.mean - self.chain.mean()).square().mean(), {}
