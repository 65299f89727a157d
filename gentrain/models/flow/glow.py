"""Glow, a multi-scale flow of ActNorm, invertible 1x1 convolutions and couplings.

[1] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039,
    and its code, github.com/openai/glow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gentrain.contracts import DataSpec
from gentrain.layers.actnorm import ActNorm
from gentrain.layers.coupling import Additive, Coupling, CouplingNet, SigmoidScale
from gentrain.layers.gaussian_prior import ConditionalPrior, TopPrior
from gentrain.layers.invertible_conv import InvertibleConv
from gentrain.layers.multiscale import MultiScale, Shape, check_halvable
from gentrain.layers.settings import check_choice, check_positive
from gentrain.layers.squeeze import Squeeze
from gentrain.layers.transform import Chain, Transform
from gentrain.models.flow.flow import Flow

COUPLINGS = {"affine": SigmoidScale, "additive": Additive}

#: Largest condition number of a 1x1 convolution: beyond it float32 keeps less than two digits of an inverse.
MAX_CONDITION = 1e5


class FlowStep(Transform):
    """One step of flow: ActNorm, invertible 1x1 convolution, coupling ([1] figure 2a).

    Args:
        channels: C of the input [B, C, H, W], at least 2.
        hidden: channels inside the coupling network.
        coupling: one of `COUPLINGS`.
        dropout: inside the coupling network, as in `CouplingNet`.
        known: numbers that are known of each image, which the coupling network is given.
    """

    def __init__(self, channels: int, hidden: int, coupling: str, dropout: float, known: int = 0) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.conv = InvertibleConv(channels)
        self.coupling = Coupling(
            channels,
            lambda c_in, c_out: CouplingNet(c_in, hidden, c_out, dropout, known),
            COUPLINGS[coupling](),
        )

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] -> (y like x, log |det| [B])."""
        x, of_actnorm = self.actnorm(x)
        x, of_conv = self.conv(x)
        x, of_coupling = self.coupling(x, *given)
        return x, of_actnorm + of_conv + of_coupling

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, C, H, W] -> x."""
        return self.actnorm.inverse(self.conv.inverse(self.coupling.inverse(y, *given)))


class Glow(Flow):
    """A flow of several scales; z ~ N(0, I) is all latents of all scales ([1] figure 2b).

    At each scale the image is squeezed and goes through `depth` steps of flow. Half of the channels then
    leave, with a Gaussian prior given the other half, which goes on to the next scale; at the last scale
    all leave. The latents are those halves whitened, (value - mu) / sigma, first scale first. [1] section 6.2
    draws at temperature 0.7.

    Args:
        spec: what the images are; 2^scales divides height and width.
        scales: L, how often the image is halved.
        depth: K, steps of flow at each scale.
        hidden: channels inside the coupling networks.
        coupling: affine or additive.
        dropout: probability of zeroing an input of a coupling network's last convolution in training.
        logit: as of `Flow`.
        label_by: as of `Flow`.
        dequantisation: as of `Flow`.

    Raises:
        ValueError: a setting out of its range, or images of a size that cannot be halved so often.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        scales: int,
        depth: int,
        hidden: int,
        coupling: str,
        dropout: float,
        logit: float | None,
        label_by: str,
        dequantisation: str,
    ) -> None:
        for setting, value in (("scales", scales), ("depth", depth), ("hidden", hidden)):
            check_positive(setting, value)
        check_choice("coupling", coupling, tuple(COUPLINGS))
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout must be at least 0 and below 1, found {dropout}")
        check_halvable(*spec.shape[1:], scales)
        known = self.known_of(spec, label_by)

        def make_scale(index: int, shape: Shape) -> tuple[Transform, Shape]:
            channels, height, width = 4 * shape[0], shape[1] // 2, shape[2] // 2
            steps = [FlowStep(channels, hidden, coupling, dropout, known) for _ in range(depth)]
            return Chain([Squeeze(), *steps]), (channels, height, width)

        multiscale = MultiScale(spec.shape, scales, make_scale, ConditionalPrior, TopPrior)
        super().__init__(spec, multiscale, logit=logit, label_by=label_by, dequantisation=dequantisation)

    @property
    def multiscale(self) -> MultiScale:
        """The map after the logit or shift, with the scales and the priors."""
        found = self.transform.get_submodule("transforms.1")
        assert isinstance(found, MultiScale)
        return found

    def healthy(self) -> str | None:
        """None, or which 1x1 convolution is not finite or too badly conditioned to be inverted."""
        for scale, chain in enumerate(self.multiscale.scales, 1):
            convs = {name: m for name, m in chain.named_modules() if isinstance(m, InvertibleConv)}
            with torch.no_grad():
                weights = torch.stack([conv.weight() for conv in convs.values()])  # [K, C, C]
                finite = weights.isfinite().all(2).all(1)
                # The rotations that they start from are at 1.
                singular = torch.linalg.svdvals(weights.where(finite[:, None, None], 0))  # [K, C], descending
                conditions = singular[:, 0] / singular[:, -1]
            found = zip(convs, finite.tolist(), conditions.tolist(), strict=True)
            for step, (name, is_finite, condition) in enumerate(found, 1):
                place = f"multiscale.scales.{scale - 1}.{name}"
                where = f"the 1x1 convolution of scale {scale}, step {step} ({place})"
                if not is_finite:
                    return f"{where} has a weight that is not finite"
                if not condition <= MAX_CONDITION:
                    return (
                        f"{where} is badly conditioned (condition number {condition:.1e}, "
                        f"at most {MAX_CONDITION:.0e}): its inverse is inexact; lower optim.main.lr"
                    )
        return None
