"""log Z of a restricted Boltzmann machine: by enumeration, or by annealed importance sampling from both ends.

[1] Neal 2001, "Annealed Importance Sampling", Statistics and Computing 11(2).
[2] Salakhutdinov & Murray 2008, "On the Quantitative Analysis of Deep Belief Networks", ICML.
[3] Burda, Grosse & Salakhutdinov 2015, "Accurate and Conservative Estimates of MRF Log-likelihood using
    Reverse Annealing", arXiv:1412.8566.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gentrain.progress import track

#: Units of the smaller layer up to which all of its states are listed.
MOST_LISTED = 20
#: States that are listed at once.
_AT_ONCE = 2**12


@dataclass(frozen=True)
class Machine:
    """E(v, h) = -b.v - c.h - h W v, of units that are 0 or 1.

    Args:
        weight: W [H, D].
        visible: b [D].
        hidden: c [H].
    """

    weight: Tensor
    visible: Tensor
    hidden: Tensor

    def inputs(self, v: Tensor) -> Tensor:
        """v [B, D] -> c + W v [B, H], the log-odds of each hidden unit."""
        return F.linear(v, self.weight, self.hidden)

    def outputs(self, h: Tensor) -> Tensor:
        """h [B, H] -> b + W^T h [B, D], the log-odds of each visible unit."""
        return torch.addmm(self.visible, h, self.weight)

    def double(self) -> Machine:
        """The same in float64."""
        return Machine(self.weight.double(), self.visible.double(), self.hidden.double())


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z.

    Args:
        value: in nats.
        error: its standard error, from how far the chains' weights differ; 0 where it is exact.
        effective: of the chains' weights, (sum w)^2 / sum w^2 ([1] section 4).
    """

    value: float
    error: float = 0.0
    effective: float = math.inf


def listable(machine: Machine) -> bool:
    """Whether all states of the smaller layer can be listed."""
    return min(machine.weight.shape) <= MOST_LISTED


@torch.no_grad()
def exact(machine: Machine, over: str = "smaller") -> LogZ:
    """log Z, summed over all states of one layer; the other is summed in closed form.

    Args:
        machine: whose.
        over: "hidden", "visible", or the "smaller" of both.
    """
    machine = machine.double()
    if over == "visible" or (over == "smaller" and machine.weight.shape[1] < machine.weight.shape[0]):
        machine = Machine(machine.weight.t(), machine.hidden, machine.visible)
    units = len(machine.hidden)
    bits = 2 ** torch.arange(units, device=machine.hidden.device)
    sums = []
    for start in range(0, 2**units, _AT_ONCE):
        numbers = torch.arange(start, min(start + _AT_ONCE, 2**units), device=bits.device)
        h = (numbers[:, None] & bits).ne(0).to(machine.hidden.dtype)  # [n, H]
        sums.append((h @ machine.hidden + F.softplus(machine.outputs(h)).sum(1)).logsumexp(0))
    return LogZ(torch.stack(sums).logsumexp(0).item())


class Annealed:
    """The machines between one without weights and `machine`: W and c times beta, b between both.

    p_beta(v) is proportional to exp(((1 - beta) b0 + beta b).v) prod_j (1 + exp(beta (c + W v)_j)); at
    beta = 0 visible units are independent, and log Z_0 = H log 2 + sum log(1 + exp(b0)) ([2] section 4.1.1).

    Args:
        machine: the one at beta = 1.
        base: b0 [D].
        temperatures: K, how many steps beta takes from 0 to 1, of equal size.
        draw: what everything random is drawn from, so that an estimate is a function of the weights.
    """

    def __init__(self, machine: Machine, base: Tensor, temperatures: int, draw: torch.Generator) -> None:
        self.machine, self.base, self.draw = machine, base, draw
        self.betas = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64).tolist()

    @property
    def log_z_0(self) -> float:
        """log Z at beta = 0."""
        return len(self.machine.hidden) * math.log(2) + F.softplus(self.base.double()).sum().item()

    def bernoulli(self, log_odds: Tensor) -> Tensor:
        """0 or 1 with these log-odds, in their dtype."""
        return torch.bernoulli(torch.sigmoid(log_odds), generator=self.draw)

    def step(self, v: Tensor, beta: float) -> Tensor:
        """v [B, D] -> the visible units after one step of block Gibbs sampling, which p_beta keeps."""
        machine = self.machine
        h = self.bernoulli(beta * machine.inputs(v))
        own = (1 - beta) * self.base + beta * machine.visible
        return self.bernoulli(torch.addmm(own, h, machine.weight, alpha=beta))

    def ratio(self, v: Tensor, before: float, after: float) -> Tensor:
        """log of p_after(v) / p_before(v), both unnormalised: [B], float64."""
        inputs = self.machine.inputs(v)
        hidden = (F.softplus(after * inputs) - F.softplus(before * inputs)).sum(1)
        return (hidden + (after - before) * (v @ (self.machine.visible - self.base))).double()

    @torch.no_grad()
    def forward(self, chains: int) -> LogZ:
        """From independent units up: E w = Z / Z_0, so that log Z is rather under-estimated."""
        v = self.bernoulli(self.base.expand(chains, -1))
        log_w = torch.zeros(chains, dtype=torch.float64, device=v.device)
        for k in track(range(1, len(self.betas)), "temperature"):
            log_w += self.ratio(v, self.betas[k - 1], self.betas[k])
            v = self.step(v, self.betas[k])
        return _estimate(self.log_z_0, log_w, 1)

    @torch.no_grad()
    def reverse(self, v: Tensor) -> LogZ:
        """From draws v [B, D] of the machine down: E 1/w = Z_0 / Z, so that log Z is rather over-estimated.

        That holds for exact draws ([3] section 3); those of a chain are as good as it mixes.
        """
        log_w = torch.zeros(len(v), dtype=torch.float64, device=v.device)
        for k in track(range(len(self.betas) - 1, 0, -1), "temperature"):
            log_w += self.ratio(v, self.betas[k - 1], self.betas[k])
            v = self.step(v, self.betas[k - 1])
        return _estimate(self.log_z_0, log_w, -1)


def _estimate(log_z_0: float, log_w: Tensor, sign: int) -> LogZ:
    """log Z_0 + sign * log mean exp(sign * log w), its error by the delta method."""
    n = len(log_w)
    total = (sign * log_w).logsumexp(0)
    share = (sign * log_w - total).exp()  # of each chain, sums to 1
    error = (n * share).std().item() / math.sqrt(n) if n > 1 else math.nan
    return LogZ(log_z_0 + sign * (total.item() - math.log(n)), error, (1 / share.square().sum()).item())
