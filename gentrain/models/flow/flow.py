"""What flows share: an invertible map between dequantised images and standard normal latents.

[1] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[2] Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models", arXiv:1511.01844.
[3] Ho, Chen, Srinivas, Duan & Abbeel 2019, "Flow++: Improving Flow-Based Generative Models with Variational
    Dequantization and Architecture Design", arXiv:1902.00275.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, HasLikelihood, Invertible, Samples
from gentrain.layers.actnorm import initialising
from gentrain.layers.dequantiser import Dequantiser
from gentrain.layers.settings import check_choice
from gentrain.layers.transform import Chain, Logit, Shift, Transform
from gentrain.models.label_by import LabelByBias

#: Images whose inverse error `examine` measures.
EXAMINED = 32
#: Share of pixel values at the first or last level from which a flow without a logit learns slowly.
MANY_EXTREME = 0.5
DEQUANTISATIONS = ("uniform", "variational")


class Flow(Samples, HasLikelihood, Invertible, LabelByBias):
    """p(y) = N(f(y); 0, I) |det df/dy| ([1] equation 2) of images y = (x + u) / levels, u ~ U[0, 1)^D.

    The expected logarithm of the density bounds that of the levels: log P(x) >= E_u log p(y) - D log(levels)
    ([2] section 3.1). With u ~ q(u|x) from a flow of its own, -log q(u|x) is added ([3] section 3.1).

    Args:
        spec: what the images are.
        transform: f, from y [B, C, H, W] moved by `logit` to z [B, C H W].
        logit: a, as of `layers.transform.Logit`: y is moved from [0, 1) to the whole line ([1] section 4.1),
            for images of which many pixels are black or white. None: to [-1/2, 1/2).
        label_by: "none", a model of p(x), or "bias": what is known of an image is added inside the coupling
            networks, which are built for `known_of` numbers.
        dequantisation: "uniform", or "variational": q(u|x) is learnt along with p.

    Raises:
        ValueError: a setting out of its range, or images without labels that are to be given.
    """

    latent_prior = "gaussian"
    formerly = {"logit": None, "label_by": "none", "dequantisation": "uniform"}  # noqa: RUF012 - never written

    def __init__(
        self,
        spec: DataSpec,
        transform: Transform,
        *,
        logit: float | None = None,
        label_by: str = "none",
        dequantisation: str = "uniform",
    ) -> None:
        super().__init__(spec)
        check_choice("dequantisation", dequantisation, DEQUANTISATIONS)
        if logit is not None and not 0 < logit < 1:
            raise ValueError(f"model.logit must be null or above 0 and below 1, found {logit}")
        self.latent_dim = spec.dims
        # Moved to around 0, as in the code of Glow.
        self.transform = Chain([Shift(-0.5) if logit is None else Logit(logit), transform])
        self.tell(self.known_of(spec, label_by))
        self.dequantiser = Dequantiser(spec.shape[0]) if dequantisation == "variational" else None
        #: Share of the first batch's pixel values at the first or last level; None: not asked.
        self._extreme: float | None = None

    # Learning

    def dequantise(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> y = (x + u) / levels in [0, 1), u ~ U[0, 1) or q(u|x)."""
        return self._dequantised(x)[0]

    def _dequantised(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x -> y, and log q(u|x) [B]; None where it is 0."""
        log_q = None
        if self.dequantiser is None:
            noise = torch.rand(x.shape, dtype=self._like.dtype, device=x.device)
        else:
            noise, log_q = self.dequantiser(self.scaled(x))
        return (x + noise) / self.spec.levels, log_q

    def log_prob(self, y: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """y [B, C, H, W] in [0, 1) -> the terms of log p(y): log N(z; 0, I) [B] and log |det dz/dy| [B].

        `given`: the condition, of a model that has one.
        """
        z, log_det = self._to_latent(y, *given)
        return -0.5 * (z.square().sum(1) + self.latent_dim * math.log(2 * math.pi)), log_det

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-log P(x), bounded with one draw of u, in nats per image, averaged over the batch.

        It is the sum of the terms `prior`, -log N(z; 0, I), and `volume`, D log(levels) - log |det dz/dy|,
        and of `noise`, log q(u|x), where that is learnt.
        """
        y, log_q = self._dequantised(batch.x)
        log_prior, log_det = self.log_prob(y, *self.given(batch))
        prior = -log_prior.mean()
        volume = self.spec.dims * math.log(self.spec.levels) - log_det.mean()
        loss, terms = prior + volume, {"prior": prior.detach(), "volume": volume.detach()}
        if log_q is not None:
            loss, terms["noise"] = loss + log_q.mean(), log_q.mean().detach()
        return loss, terms

    def data_dependent_init(self, batch: Batch) -> None:
        """Initialise each layer that starts from data on what those before it make of the batch, once."""
        with torch.no_grad(), initialising(self):
            self._to_latent(self.dequantise(batch.x), *self.given(batch))
        extreme = (batch.x == 0) | (batch.x == self.spec.levels - 1)
        self._extreme = extreme.double().mean().item()

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """That most pixel values are extreme, where no logit takes them apart."""
        if any(isinstance(module, Logit) for module in self.modules()) or (self._extreme or 0) < MANY_EXTREME:
            return []
        return [
            f"{self._extreme:.0%} of the pixel values are at the first or the last level, which a flow "
            "learns slowly as they are; model.logit=1e-5 moves them apart"
        ]

    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """The largest |from_latent(to_latent(y)) - y| over `EXAMINED` images."""
        few = batch.map(lambda part: part[:EXAMINED])
        y, given = self.dequantise(few.x), self.given(few)
        with torch.no_grad():
            again = self._from_latent(self._to_latent(y, *given)[0], *given)
            return {"inverse_error": (again - y).abs().max()}

    # Capabilities

    def likelihood_kind(self, samples: int | None) -> str:
        """With one draw of u, as the literature reports it; with as many as `samples` where q is learnt."""
        draws = self._draws(samples)
        return "dequantised bound" + (f", {draws} draws" if draws > 1 else "")

    def _draws(self, samples: int | None) -> int:
        return 1 if self.dequantiser is None else samples or 1

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        """The logarithm of the mean of p(y) / q(u|x) over the draws ([3] equation 13), of one as a rule."""
        draws = self._draws(samples)
        found = [self._one_bound(x, *y) for _ in range(draws)]
        return found[0] if draws == 1 else torch.stack(found).logsumexp(0) - math.log(draws)

    def _one_bound(self, x: Tensor, *y: Tensor) -> Tensor:
        dequantised, log_q = self._dequantised(x)
        log_prior, log_det = self.log_prob(dequantised, *y)
        bound = log_prior + log_det - self.spec.dims * math.log(self.spec.levels)
        return bound if log_q is None else bound - log_q

    def _to_latent(self, y: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.transform(y, *self.as_numbers(*given))
        return z, log_det

    def _from_latent(self, z: Tensor, *given: Tensor) -> Tensor:
        return self.transform.inverse(z, *self.as_numbers(*given))

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """The latents of the middles of the levels, (x + 1/2) / levels."""
        return self._to_latent((x.to(self._like.dtype) + 0.5) / self.spec.levels, *y)[0]

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The level whose interval y falls into, or the nearest level."""
        levels = self.spec.levels
        return (self._from_latent(z, *y) * levels).floor().clamp(0, levels - 1).to(torch.uint8)

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """From z ~ N(0, temperature^2 I)."""
        return self._latents_to_images(temperature * self._prior_draws(n, *y), *y)
