"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.activation import activation


class Linear(nn.Linear):
    """torch's linear layer; in inference mode on a CPU its float32 products are oneDNN's.

    torch takes MKL's, which uses half the width of an AMD processor's vector units.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        if torch.compiler.is_compiling() or not _by_onednn(x):
            return super().forward(x)
        return F.linear(x.to_mkldnn(), self.weight, self.bias).to_dense()


def _by_onednn(x: Tensor) -> bool:
    """Whether a product without gradient is to be oneDNN's."""
    return (
        torch.is_inference_mode_enabled()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )


class MLP(nn.Sequential):
    """Linear layers of the given sizes with an activation between them, none after the last.

    Weights start as in Glorot & Bengio 2010, equation 16; biases at zero.

    Args:
        sizes: units of input, hidden layers and output, at least two numbers of at least 1.
        activation_name: one of `layers.activation.ACTIVATIONS`.

    [..., sizes[0]] -> [..., sizes[-1]].

    Raises:
        ValueError: fewer than two sizes, one below 1, or an unknown activation.
    """

    def __init__(self, sizes: Sequence[int], activation_name: str) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"an MLP needs two or more sizes of at least 1, found {list(sizes)}")
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(sizes):
            linear = Linear(width_in, width_out)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, activation(activation_name)]
        super().__init__(*layers[:-1])
