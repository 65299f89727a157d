"""The invertible 1x1 convolution.

[1] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gentrain.layers.transform import Transform


class InvertibleConv(Transform):
    """y = W x at every position, with W = P L (U + diag(s)), [1] section 3.2 and equation 10.

    P is a permutation, L lower triangular with ones on its diagonal, U strictly upper triangular. P and
    the signs of s stay; L, U and log |s| are learnt. W starts as a random rotation.

    Args:
        channels: C of the input [B, C, ...].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        # A determinant of -1 is a rotation with a reflection.
        rotation[:, 0] *= torch.linalg.det(rotation)
        p, lower, upper = torch.linalg.lu(rotation)
        s = upper.diagonal()
        dtype = torch.get_default_dtype()
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))  # strictly: its other entries are not used
        self.upper = nn.Parameter(upper.triu(1).to(dtype))
        self.log_s = nn.Parameter(s.abs().log().to(dtype))
        self.sign: Tensor
        self.order: Tensor
        self.register_buffer("sign", s.sign().to(dtype))
        self.register_buffer("order", p.argmax(1))  # row i of P (L U) is row order[i] of L U

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(s), [C, C] each."""
        s = self.sign * self.log_s.exp()
        lower = self.lower.tril(-1) + torch.eye(len(s), dtype=s.dtype, device=s.device)
        return lower, self.upper.triu(1) + s.diag()

    def weight(self) -> Tensor:
        """W [C, C]."""
        lower, upper = self._factors()
        return (lower @ upper)[self.order]

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, ...] -> (y, log |det| [B]): sum log |s| for each position, [1] equation 11."""
        # Half precision would move y by far more than the inverse may be off.
        with torch.autocast(x.device.type, enabled=False):
            y = torch.einsum("ij,bj...->bi...", self.weight(), x)
        return y, (self.log_s.sum() * math.prod(x.shape[2:])).expand(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, C, ...] -> x = (U + diag(s))^-1 L^-1 P^T y."""
        with torch.autocast(y.device.type, enabled=False):
            lower, upper = self._factors()
            identity = torch.eye(len(lower), dtype=y.dtype, device=y.device)
            permuted = identity[:, self.order.argsort()].T  # P^T
            solved = torch.linalg.solve_triangular(lower, permuted, upper=False, unitriangular=True)
            return torch.einsum(
                "ij,bj...->bi...", torch.linalg.solve_triangular(upper, solved, upper=True), y
            )
