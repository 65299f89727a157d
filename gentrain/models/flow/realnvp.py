"""RealNVP, affine couplings on positions and on channels at several scales.

[1] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[2] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039.
"""

from __future__ import annotations

from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.layers.actnorm import ActNorm, ActNormConv2d
from gentrain.layers.condition import BiasOf
from gentrain.layers.coupling import ChannelMask, CheckerboardMask, Coupling, Mask, TanhScale, ZeroConv2d
from gentrain.layers.gaussian_prior import StandardPrior
from gentrain.layers.multiscale import MultiScale, Shape, check_halvable
from gentrain.layers.settings import check_positive
from gentrain.layers.squeeze import Squeeze
from gentrain.layers.transform import Chain, Transform
from gentrain.models.flow.flow import Flow


class ResidualNet(nn.Module):
    """A 3x3 convolution, residual blocks of two more, and one that starts at zero ([1] section 4.1).

    Where [1] has weight and batch normalisation, scale and shift of a convolution start from the first batch
    (ActNorm, [2] section 3.1): what depends on a batch is no density.

    Args:
        channels_in: of the input.
        hidden: channels inside.
        channels_out: of the output.
        blocks: residual blocks.
        known: numbers that are known of each image; their bias is added to the first convolution.

    [B, channels_in, H, W] -> [B, channels_out, H, W].
    """

    def __init__(self, channels_in: int, hidden: int, channels_out: int, blocks: int, known: int) -> None:
        super().__init__()
        self.first = ActNormConv2d(channels_in, hidden, 3)
        self.bias_of = BiasOf(known, hidden) if known else None

        def block() -> nn.Sequential:
            convolutions = [ActNormConv2d(hidden, hidden, 3) for _ in range(2)]
            return nn.Sequential(nn.ReLU(), convolutions[0], nn.ReLU(), convolutions[1])

        self.blocks = nn.ModuleList(block() for _ in range(blocks))
        self.last = nn.Sequential(nn.ReLU(), ZeroConv2d(hidden, channels_out))

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """x [B, channels_in, H, W], what is known [B, known] -> [B, channels_out, H, W]."""
        x = self.first(x)
        if self.bias_of is not None:
            x = x + self.bias_of(*given)[:, :, None, None]
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class RealNVP(Flow):
    """Couplings exp(l) x + t, at each scale three on positions and, squeezed, three on channels.

    As in [1] section 3.6: half of the channels then leave as latents, and the last scale has four couplings
    on positions and no squeeze. After each coupling ActNorm stands where [1] has batch normalisation: moving
    statistics would make the density one of the batch, and a resumed run another. The prior is standard
    normal everywhere.

    Args:
        spec: what the images are; 2^(scales - 1) divides height and width.
        scales: how many.
        hidden: channels inside the coupling networks before the first squeeze; twice as many after each.
        blocks: residual blocks of a coupling network.
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
        hidden: int,
        blocks: int,
        logit: float | None,
        label_by: str,
        dequantisation: str,
    ) -> None:
        for setting, value in (("scales", scales), ("hidden", hidden), ("blocks", blocks)):
            check_positive(setting, value)
        check_halvable(*spec.shape[1:], scales, whole=1)
        known = self.known_of(spec, label_by)

        def couplings(channels: int, width: int, masks: list[Mask]) -> list[Transform]:
            def net(channels_in: int, channels_out: int) -> nn.Module:
                return ResidualNet(channels_in, width, channels_out, blocks, known)

            made: list[Transform] = []
            for mask in masks:
                made += [Coupling(channels, net, TanhScale, mask), ActNorm(channels)]
            return made

        def make_scale(index: int, shape: Shape) -> tuple[Transform, Shape]:
            channels, height, width = shape
            last = index == scales - 1
            colours: list[Mask] = [CheckerboardMask(odd=bool(i % 2)) for i in range(4 if last else 3)]
            positions = couplings(channels, hidden * 2**index, colours)
            if last:
                return Chain(positions), shape
            halves: list[Mask] = [ChannelMask(second=bool(i % 2)) for i in range(3)]
            on_channels = couplings(4 * channels, hidden * 2 ** (index + 1), halves)
            return Chain([*positions, Squeeze(), *on_channels]), (4 * channels, height // 2, width // 2)

        multiscale = MultiScale(
            spec.shape, scales, make_scale, lambda *_: StandardPrior(), lambda _: StandardPrior()
        )
        super().__init__(
            spec,
            Chain([ActNorm(spec.shape[0]), multiscale]),
            logit=logit,
            label_by=label_by,
            dequantisation=dequantisation,
        )
