"""Glow, a multi-scale flow of ActNorm, invertible 1x1 convolutions and couplings.

[1] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039,
    and its code, github.com/openai/glow.
[2] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[3] Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models", arXiv:1511.01844.
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
    Invertible,
    LikelihoodKind,
    Samples,
    check_draws,
    check_images,
    refuse_label,
)
from gentrain.layers.actnorm import ActNorm, initialising
from gentrain.layers.coupling import AdditiveCoupling, AffineCoupling, CouplingNet
from gentrain.layers.gaussian_prior import ConditionalPrior, GaussianPrior, TopPrior
from gentrain.layers.invertible_conv import InvertibleConv
from gentrain.layers.squeeze import Squeeze
from gentrain.layers.transform import Chain, Transform

COUPLINGS = {"affine": AffineCoupling, "additive": AdditiveCoupling}

#: Bytes that one chunk of images may take where no gradient is kept.
CHUNK_BYTES = 256 * 2**20
#: Largest condition number of a 1x1 convolution: beyond it float32 keeps less than two digits of an inverse.
MAX_CONDITION = 1e5
#: Images whose inverse error `examine` measures.
EXAMINED = 32


class FlowStep(Transform):
    """One step of flow: ActNorm, invertible 1x1 convolution, coupling ([1] figure 2a).

    Args:
        channels: C of the input [B, C, H, W], at least 2.
        hidden: channels inside the coupling network.
        coupling: one of `COUPLINGS`.
        dropout: inside the coupling network, as in `CouplingNet`.
    """

    def __init__(self, channels: int, hidden: int, coupling: str, dropout: float) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.conv = InvertibleConv(channels)
        self.coupling = COUPLINGS[coupling](
            channels, lambda c_in, c_out: CouplingNet(c_in, hidden, c_out, dropout)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] -> (y like x, log |det| [B])."""
        x, of_actnorm = self.actnorm(x)
        x, of_conv = self.conv(x)
        x, of_coupling = self.coupling(x)
        return x, of_actnorm + of_conv + of_coupling

    def inverse(self, y: Tensor) -> Tensor:
        """y [B, C, H, W] -> x."""
        return self.actnorm.inverse(self.conv.inverse(self.coupling.inverse(y)))


class Glow(GenerativeModel, Samples, HasLikelihood, Invertible):
    """A flow of several scales; z ~ N(0, I) is all latents of all scales ([1] figure 2b).

    At each scale the image is squeezed and goes through `depth` steps of flow. Half of the channels then
    leave, with a Gaussian prior given the other half, which goes on to the next scale; at the last scale
    all leave. The latents are those halves whitened, (value - mu) / sigma, first scale first.

    The density is one of dequantised images y = (x + u) / levels, u ~ U[0, 1)^D, whose expected logarithm
    bounds that of the levels: log P(x) >= E_u log p(y) - D log(levels) ([3] section 3.1).

    Args:
        spec: what the images are; 2^scales divides height and width.
        scales: L, how often the image is halved.
        depth: K, steps of flow at each scale.
        hidden: channels inside the coupling networks.
        coupling: affine or additive.
        dropout: probability of zeroing an input of a coupling network's last convolution in training.

    Raises:
        ValueError: a setting out of its range, or images of a size that cannot be halved so often.
    """

    latent_prior = "gaussian"

    def __init__(
        self, spec: DataSpec, *, scales: int, depth: int, hidden: int, coupling: str, dropout: float
    ) -> None:
        super().__init__(spec)
        for setting, value in (("scales", scales), ("depth", depth), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"model.{setting} must be at least 1, found {value}")
        if coupling not in COUPLINGS:
            raise ValueError(f"model.coupling must be one of {', '.join(COUPLINGS)}, found {coupling!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout must be at least 0 and below 1, found {dropout}")
        channels, height, width = spec.shape
        _check_size(height, width, scales)
        self.scales, self.priors = nn.ModuleList(), nn.ModuleList()
        #: (C, H, W) of the latents that leave at each scale.
        self.latent_shapes: list[tuple[int, int, int]] = []
        for scale in range(scales):
            channels, height, width = 4 * channels, height // 2, width // 2
            steps = [FlowStep(channels, hidden, coupling, dropout) for _ in range(depth)]
            self.scales.append(Chain([Squeeze(), *steps]))
            prior: GaussianPrior = TopPrior(channels)
            if scale < scales - 1:
                channels //= 2
                prior = ConditionalPrior(channels, channels)
            self.priors.append(prior)
            self.latent_shapes.append((channels, height, width))
        # The widest layer is between two convolutions of a coupling at the first scale: its input, its
        # output and what the convolution needs besides; an upper estimate.
        self._floats_per_image = (6 * hidden + 16 * spec.shape[0]) * (spec.shape[1] * spec.shape[2]) // 4

    @property
    def latent_dim(self) -> int:
        """D = C * H * W."""
        return self.spec.dims

    # The paper.

    def dequantise(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> y = (x + u) / levels in [0, 1), u ~ U[0, 1)."""
        noise = torch.rand(x.shape, dtype=self._like.dtype, device=x.device)
        return (x + noise) / self.spec.levels

    def _to_latents(self, y: Tensor) -> tuple[list[Tensor], Tensor]:
        """y [B, C, H, W] -> the latents of each scale, [B, *latent_shapes[i]], and log |det| [B]."""
        h = y - 0.5  # as in [1]'s code: data around 0
        latents, log_det = [], h.new_zeros(len(h))
        for scale, prior in zip(self.scales, self.priors, strict=True):
            h, of_scale = scale(h)
            z = h
            if isinstance(prior, ConditionalPrior):
                z, h = h.chunk(2, dim=1)
            assert isinstance(prior, GaussianPrior)
            eps, of_prior = prior.whiten(z, h)
            latents.append(eps)
            log_det = log_det + of_scale + of_prior
        return latents, log_det

    def log_prob(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [B, C, H, W] in [0, 1) -> the terms of log p(y): log N(z; 0, I) [B] and log |det dz/dy| [B]."""
        z, log_det = self.to_latent(y)
        return -0.5 * (z.square().sum(1) + self.latent_dim * math.log(2 * math.pi)), log_det

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-log P(x), bounded with one draw of u, in nats per image, averaged over the batch.

        It is the sum of the terms `prior`, -log N(z; 0, I), and `volume`, D log(levels) - log |det dz/dy|.
        """
        log_prior, log_det = self.log_prob(self.dequantise(batch.x))
        prior = -log_prior.mean()
        volume = self.spec.dims * math.log(self.spec.levels) - log_det.mean()
        return prior + volume, {"prior": prior.detach(), "volume": volume.detach()}

    def data_dependent_init(self, batch: Batch) -> None:
        """Initialise each ActNorm on what the layers before it make of the batch ([1] section 3.1), once."""
        with torch.no_grad(), initialising(self):
            self._to_latents(self.dequantise(batch.x))

    def healthy(self) -> str | None:
        """None, or which 1x1 convolution is not finite or too badly conditioned to be inverted."""
        for scale, chain in enumerate(self.scales, 1):
            convs = {name: m for name, m in chain.named_modules() if isinstance(m, InvertibleConv)}
            with torch.no_grad():
                weights = torch.stack([conv.weight() for conv in convs.values()])  # [K, C, C]
                finite = weights.isfinite().all(2).all(1)
                # The rotations that they start from are at 1.
                singular = torch.linalg.svdvals(weights.where(finite[:, None, None], 0))  # [K, C], descending
                conditions = singular[:, 0] / singular[:, -1]
            found = zip(convs, finite.tolist(), conditions.tolist(), strict=True)
            for step, (name, is_finite, condition) in enumerate(found, 1):
                where = f"the 1x1 convolution of scale {scale}, step {step} (scales.{scale - 1}.{name})"
                if not is_finite:
                    return f"{where} has a weight that is not finite"
                if not condition <= MAX_CONDITION:
                    return (
                        f"{where} is badly conditioned (condition number {condition:.1e}, "
                        f"at most {MAX_CONDITION:.0e}): its inverse is inexact; lower optim.main.lr"
                    )
        return None

    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """The largest |from_latent(to_latent(y)) - y| over `EXAMINED` images."""
        y = self.dequantise(batch.x[:EXAMINED])
        with torch.no_grad():
            return {"inverse_error": (self.from_latent(self.to_latent(y)[0]) - y).abs().max()}

    # What commands ask for.

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, label: Tensor | None = None, samples: int | None = None
    ) -> tuple[Tensor, LikelihoodKind]:
        """A lower bound on log P(x) with one draw of u, as the literature reports it; without gradient.

        Args:
            x: uint8 [B, C, H, W].
            label: ignored, since the model is one of p(x).
            samples: ignored: the bound is that of one draw, whatever its value.

        Returns:
            (bound [B] in nats per image, "dequantised bound").

        Raises:
            ValueError: images that the model was not built for.
        """
        check_images(x, self.spec)
        terms = [self.log_prob(self.dequantise(piece)) for piece in x.split(self._chunk())]
        log_p = torch.cat([log_prior + log_det for log_prior, log_det in terms])
        return log_p - self.spec.dims * math.log(self.spec.levels), "dequantised bound"

    def to_latent(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float [B, C, H, W] in [0, 1) -> (z [B, D], log |det dz/dy| [B]).

        Raises:
            ValueError: y of another shape.
        """
        if y.ndim != 4 or tuple(y.shape[1:]) != self.spec.shape:
            raise ValueError(f"y must be [B, {', '.join(map(str, self.spec.shape))}], found {list(y.shape)}")
        latents, log_det = self._to_latents(y)
        return torch.cat([part.flatten(1) for part in latents], dim=1), log_det

    def from_latent(self, z: Tensor) -> Tensor:
        """z [B, D] -> y float [B, C, H, W], inverse of `to_latent`; outside [0, 1) where the model is off.

        Raises:
            ValueError: z of another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be [B, {self.latent_dim}], found {list(z.shape)}")
        parts = z.to(self._like.dtype).split([math.prod(shape) for shape in self.latent_shapes], dim=1)
        h = z.new_empty(0)  # nothing goes on from the last scale
        for i in reversed(range(len(parts))):
            prior, scale = self.priors[i], self.scales[i]
            assert isinstance(prior, GaussianPrior)
            assert isinstance(scale, Transform)
            value = prior.colour(parts[i].unflatten(1, self.latent_shapes[i]), h)
            h = scale.inverse(torch.cat([value, h], dim=1) if isinstance(prior, ConditionalPrior) else value)
        return h + 0.5

    @torch.no_grad()
    def images_to_latents(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> the latents of the middles of the levels, (x + 1/2) / levels; [B, D].

        Raises:
            ValueError: images that the model was not built for.
        """
        check_images(x, self.spec)
        middles = (x.to(self._like.dtype) + 0.5) / self.spec.levels
        return torch.cat([self.to_latent(piece)[0] for piece in middles.split(self._chunk())])

    @torch.no_grad()
    def latents_to_images(self, z: Tensor) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], the level whose interval y falls into, or the nearest level.

        Raises:
            ValueError: z of another shape.
        """
        levels = self.spec.levels
        pieces = [self.from_latent(piece) * levels for piece in z.split(self._chunk())]
        return torch.cat([y.floor().clamp(0, levels - 1).to(torch.uint8) for y in pieces])

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W], from z ~ N(0, temperature^2 I) ([1] section 6.2 takes 0.7).

        Raises:
            ValueError: temperature not above 0 or not finite, n below 0, or a label.
        """
        refuse_label(self, label)
        check_draws(n, temperature)
        like = self._like
        return self.latents_to_images(
            temperature * torch.randn(n, self.latent_dim, dtype=like.dtype, device=like.device)
        )

    def _chunk(self) -> int:
        """How many images to take at once where no gradient is kept."""
        return max(1, CHUNK_BYTES // (self._floats_per_image * self._like.element_size()))


def _check_size(height: int, width: int, scales: int) -> None:
    """Refuse images that 2^scales does not divide, and say what would do."""
    unit = 2**scales
    if height % unit == 0 and width % unit == 0:
        return
    common = math.gcd(height, width)
    most = (common & -common).bit_length() - 1  # how often 2 divides both
    sides = [side for side in (max(height, width) // unit * unit,) if side]
    ways = [f"model.scales={most}"] if most else []
    sizes = " or ".join(map(str, [*sides, (sides or [0])[-1] + unit]))
    ways.append(f"dataset.image_size={sizes} where the data set takes it")
    raise ValueError(
        f"images are {height}x{width}, but model.scales={scales} needs sides that {unit} divides; "
        f"set {', or '.join(ways)}"
    )
