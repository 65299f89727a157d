"""NICE, additive couplings of vectors and one scale for each component.

[1] Dinh, Krueger & Bengio 2015, "NICE: Non-linear Independent Components Estimation", arXiv:1410.8516.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.layers.condition import BiasOf
from gentrain.layers.coupling import Additive, ChannelMask, Coupling
from gentrain.layers.logistic_prior import LogisticToNormal
from gentrain.layers.mlp import MLP
from gentrain.layers.settings import check_positive
from gentrain.layers.transform import Chain, Scale, Transform
from gentrain.models.flow.flow import Flow


class EvenOdd(Transform):
    """[B, C, H, W] -> [B, D], values at even places first, then those at odd ones ([1] section 5.1).

    Args:
        shape: (C, H, W).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] -> ([B, D], zeros [B])."""
        x = x.flatten(1)
        return torch.cat([x[:, ::2], x[:, 1::2]], 1), x.new_zeros(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, D] -> [B, C, H, W]."""
        x = torch.empty_like(y)
        even = (y.shape[1] + 1) // 2
        x[:, ::2], x[:, 1::2] = y[:, :even], y[:, even:]
        return x.view(-1, *self.shape)


class CouplingMLP(MLP):
    """A perceptron with ReLU units whose output is zero at first.

    Args:
        sizes: units of input, hidden layers and output.
        known: numbers that are known of each image; their bias is added to the first hidden layer.

    [B, sizes[0]] -> [B, sizes[-1]].
    """

    def __init__(self, sizes: Sequence[int], known: int) -> None:
        super().__init__(sizes, "relu")
        self.count = len(self)
        last = self[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        self.bias_of = BiasOf(known, sizes[1]) if known else None

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """x [B, sizes[0]], what is known [B, known] -> [B, sizes[-1]]."""
        x = self[0](x)
        if self.bias_of is not None:
            x = x + self.bias_of(*given)
        for layer in list(self)[1 : self.count]:
            x = layer(x)
        return x


class NICE(Flow):
    """Additive couplings, which keep the volume, then h_i = exp(s_i) y_i with independent logistic h ([1]).

    The halves of a coupling are the values at even and at odd places, in turn ([1] section 5.1). So that
    latents are standard normal, as of every flow here, h becomes eps = Phi^-1(sigmoid(h)), which changes no
    density.

    Args:
        spec: what the images are, of two values at least.
        couplings: how many.
        hidden: units of the hidden layers of a coupling's network.
        logit: as of `Flow`; [1] has none.
        label_by: as of `Flow`.
        dequantisation: as of `Flow`.

    Raises:
        ValueError: a setting out of its range, or images of a single value.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        couplings: int,
        hidden: Sequence[int],
        logit: float | None,
        label_by: str,
        dequantisation: str,
    ) -> None:
        check_positive("couplings", couplings)
        check_positive("hidden", *hidden)
        known = self.known_of(spec, label_by)

        def net(units_in: int, units_out: int) -> nn.Module:
            return CouplingMLP([units_in, *hidden, units_out], known)

        made = [
            Coupling(spec.dims, net, Additive(), ChannelMask(second=bool(i % 2))) for i in range(couplings)
        ]
        transform = Chain([EvenOdd(spec.shape), *made, Scale(spec.dims), LogisticToNormal()])
        super().__init__(spec, transform, logit=logit, label_by=label_by, dequantisation=dequantisation)
