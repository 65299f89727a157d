"""The gated activation of WaveNet, PixelCNN and their heirs."""

from __future__ import annotations

import torch
from torch import Tensor

from gentrain.layers.activation import tanh_by_sigmoid


def gate(x: Tensor, dim: int = 1) -> Tensor:
    """[..., 2 F, ...] along `dim` -> tanh(a) * sigmoid(b), [..., F, ...], a the first half and b the second.

    van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328,
    equation 2.
    """
    a, b = x.chunk(2, dim)
    quick = torch.compiler.is_compiling() or (torch.is_inference_mode_enabled() and x.device.type == "cpu")
    return (tanh_by_sigmoid(a) if quick else a.tanh()) * b.sigmoid()
