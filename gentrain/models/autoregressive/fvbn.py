"""The fully visible belief network.

[1] Frey, Hinton & Dayan 1996, "Does the Wake-Sleep Algorithm Produce Good Density Estimators?", NIPS 8,
    section 3, the logistic autoregressive network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.layers.ordering import Steps
from gentrain.models.autoregressive.vector import OverVectors


class FVBN(OverVectors):
    """p(v_i | v_<i) is a logistic regression on the values before it ([1] section 3); softmax of many levels.

    Args:
        spec: what the images are.
        order: "raster" or "random".
        order_seed: which random order.

    Raises:
        ValueError: an unknown order.
    """

    def __init__(self, spec: DataSpec, *, order: str, order_seed: int) -> None:
        super().__init__(spec, order, order_seed)
        dims, count = spec.dims, self.pixels.parameters
        self.weight = nn.Parameter(torch.zeros(dims, count, dims))  # [to, P, from]
        self.bias = nn.Parameter(torch.zeros(dims, count))

    def outputs(self, v: Tensor) -> Tensor:
        """v [B, D] -> [B, D, P]."""
        before = self.weight * self._before
        return F.linear(v, before.flatten(0, 1), self.bias.flatten()).unflatten(1, self.bias.shape)

    @property
    def _before(self) -> Tensor:
        """bool [D, 1, D], which values each one sees."""
        place = torch.arange(self.spec.dims, device=self.weight.device)
        return (place < place[:, None])[:, None]

    def steps(self, n: int, which: int = 0) -> Steps:
        """A row of the weights for each value."""
        return _Steps(self, n)


class _Steps(Steps):
    def __init__(self, model: FVBN, n: int) -> None:
        self.v = model.weight.new_zeros(n, model.spec.dims)
        self.weight, self.bias = model.weight.detach(), model.bias.detach()

    def at(self, i: int) -> Tensor:
        return torch.addmm(self.bias[i], self.v[:, :i], self.weight[i, :, :i].t())

    def observe(self, i: int, value: Tensor) -> None:
        self.v[:, i] = value
