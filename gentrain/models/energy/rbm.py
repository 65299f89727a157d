"""The restricted Boltzmann machine.

[1] Smolensky 1986, "Information Processing in Dynamical Systems: Foundations of Harmony Theory".
[2] Hinton 2002, "Training Products of Experts by Minimizing Contrastive Divergence", Neural
    Computation 14(8).
[3] Tieleman 2008, "Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient",
    ICML.
[4] Melchior, Fischer & Wiskott 2016, "How to Center Deep Boltzmann Machines", JMLR 17(99).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import Batch, Completes, DataSpec, HasLikelihood, ImagesToLatents, Samples
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.settings import check_positive
from gentrain.models.energy.partition import Annealed, LogZ, Machine, exact, listable
from gentrain.progress import track

#: Mean of a pixel as far as a bias follows it: the log-odds of pixels that never change have no end.
LEAST_MEAN = 1e-3
#: Of the chains of annealed importance sampling, how many must carry the estimate for it to be one.
LEAST_EFFECTIVE = 2.0


class Centred(torch.autograd.Function):
    """W, b and c as they are; their gradients as if the units were centred ([4] algorithm 1).

    With offsets mu of the visible and lambda of the hidden units, W follows <(h - lambda)(v - mu)>, and both
    biases what keeps the machine's centred biases on their gradients.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, b: Tensor, c: Tensor, mu: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        """W [H, D], b and mu [D], c and lambda [H] -> W, b, c."""
        ctx.save_for_backward(mu.clone(), lam.clone())
        return w.view_as(w), b.view_as(b), c.view_as(c)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of W, b and c as they are -> of the centred."""
        (of_w, of_b, of_c), (mu, lam) = gradients, ctx.saved_tensors
        of_w = of_w - torch.outer(lam, of_b) - torch.outer(of_c, mu)
        return of_w, of_b - lam @ of_w, of_c - of_w @ mu, None, None


class RBM(Samples, HasLikelihood, Completes, ImagesToLatents):
    """p(v) = exp(-F(v)) / Z, F(v) = -b.v - sum_j log(1 + exp(c_j + W_j v)), for images of two levels ([1]).

    The gradient of -log p(v) is that of F(v) minus its mean over the model, which is taken over a chain: one
    that starts from the data (contrastive divergence, [2]), or that goes on from step to step ([3]).

    log Z is summed where one of the layers has at most 20 units, and estimated by annealed importance
    sampling elsewhere: from independent pixels up, which errs towards too good a likelihood, and from the
    chain down, which errs to the other side.

    Args:
        spec: what the images are; of 2 levels.
        hidden: H, hidden units.
        k: steps of block Gibbs sampling for each update.
        persistent: whether the chains go on, or start from the images.
        chains: how many go on.
        centred: whether gradients are those of centred units.
        offset_rate: share of a batch in the running means of the units, which are their offsets.
        chain_steps: steps from where the chains are to a sample, or of a completion.
        temperatures: of annealed importance sampling, at least; asked for with more `samples`, so many.
        ais_chains: of annealed importance sampling, in each direction.

    Raises:
        ValueError: a setting out of its range, or images of more than two levels.
    """

    latent_prior = "none"

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: int,
        k: int,
        persistent: bool,
        chains: int,
        centred: bool,
        offset_rate: float,
        chain_steps: int,
        temperatures: int,
        ais_chains: int,
    ) -> None:
        super().__init__(spec)
        counts = {"hidden": hidden, "k": k, "chains": chains, "chain_steps": chain_steps}
        for setting, value in {**counts, "temperatures": temperatures, "ais_chains": ais_chains}.items():
            check_positive(setting, value)
        if not 0 <= offset_rate <= 1:
            raise ValueError(f"model.offset_rate must be 0 to 1, found {offset_rate}")
        if spec.levels != 2:
            raise ValueError(
                f"rbm takes 2 levels, found {spec.levels}; set dataset.binarize=dynamic, or threshold"
            )
        self.latent_dim = hidden
        self.k, self.persistent, self.chain_steps = k, persistent, chain_steps
        self.centred, self.offset_rate = centred, offset_rate
        self.temperatures, self.ais_chains = temperatures, ais_chains
        # As for a sigmoid network (Glorot & Bengio 2010, equation 16, times 4).
        reach = 4 * (6 / (spec.dims + hidden)) ** 0.5
        self.weight = nn.Parameter((2 * torch.rand(hidden, spec.dims) - 1) * reach)
        self.visible = nn.Parameter(torch.zeros(spec.dims))
        self.hidden = nn.Parameter(torch.zeros(hidden))
        self.chain: Tensor
        self.mu: Tensor
        self.lam: Tensor
        self.register_buffer("chain", torch.randint(0, 2, (chains, spec.dims), dtype=torch.uint8))
        self.register_buffer("mu", torch.full((spec.dims,), 0.5))
        self.register_buffer("lam", torch.full((hidden,), 0.5))
        self._found: dict[tuple[str, int], LogZ] = {}
        self._found_of: tuple[Tensor, ...] = ()

    # The machine

    @property
    def machine(self) -> Machine:
        """Its weights and biases of now."""
        return Machine(self.weight, self.visible, self.hidden)

    def units(self, x: Tensor) -> Tensor:
        """Levels 0 and 1, [B, ...] -> v [B, D] in the model's dtype."""
        return x.flatten(1).to(self._like.dtype)

    def free_energy(self, v: Tensor, machine: Machine | None = None) -> Tensor:
        """v [B, D] -> F(v) [B]."""
        machine = machine or self.machine
        return -(v * machine.visible).sum(1) - F.softplus(at_least_float32(machine.inputs(v))).sum(1)

    def gibbs(self, v: Tensor, steps: int, temperature: float = 1.0, known: Tensor | None = None) -> Tensor:
        """v [B, D] -> v after `steps` steps of block Gibbs sampling of p(v)^(1 / temperature).

        Args:
            v: where the chains start.
            steps: how many.
            temperature: of the energy.
            known: bool [B, D], which units stay.
        """
        first = v
        for _ in track(range(steps), "step"):
            h = torch.bernoulli(torch.sigmoid(self.machine.inputs(v) / temperature))
            v = torch.bernoulli(torch.sigmoid(self.machine.outputs(h) / temperature)).to(first.dtype)
            if known is not None:
                v = torch.where(known, first, v)
        return v

    # Learning

    def data_dependent_init(self, batch: Batch) -> None:
        """Biases such that pixels have the batch's means where the hidden units are at 1/2."""
        with torch.no_grad():
            self.mu.copy_(self.units(batch.x).mean(0))
            self.visible.copy_(self._log_odds() - self.lam @ self.weight)
            self.hidden.copy_(-(self.weight @ self.mu))

    def _log_odds(self) -> Tensor:
        """Of the pixels' means."""
        return torch.logit(self.mu.clamp(LEAST_MEAN, 1 - LEAST_MEAN))

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """F(v) - F(v_k), means over the batch and over the ends v_k of the chains.

        Only its gradient means something: it has no lowest value. Terms: `data`, F(v), and `chain`, F(v_k).
        """
        v = self.units(batch.x)
        with torch.no_grad():
            start = self.units(self.chain) if self.persistent else v
            end = self.gibbs(start, self.k)
            if self.training:
                rows = min(len(end), len(self.chain))
                self.chain[:rows].copy_(end[:rows])
                self.mu.lerp_(v.mean(0).to(self.mu.dtype), self.offset_rate)
                seen = torch.sigmoid(self.machine.inputs(v)).mean(0)
                self.lam.lerp_(seen.to(self.lam.dtype), self.offset_rate)
        machine = self.machine
        if self.centred:
            machine = Machine(*Centred.apply(self.weight, self.visible, self.hidden, self.mu, self.lam))
        data, chain = self.free_energy(v, machine).mean(), self.free_energy(end, machine).mean()
        return data - chain, {"data": data.detach(), "chain": chain.detach()}

    # Likelihood

    def likelihood_kind(self, samples: int | None) -> str:
        """Exact where log Z is; else the estimate that errs towards too good a likelihood."""
        if listable(self.machine):
            return "exact"
        return f"AIS estimate, {self._steps(samples)} temperatures"

    def _steps(self, samples: int | None) -> int:
        """How many temperatures annealed importance sampling goes through."""
        return max(self.temperatures, samples or 0)

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        return -self.free_energy(self.units(x))

    def _log_normaliser(self, samples: int | None) -> float:
        """log Z, with `samples` temperatures where it is estimated.

        Raises:
            ValueError: they are so few that hardly a chain carries the estimate that was asked for.
        """
        if listable(self.machine):
            return self.log_z("exact").value
        steps = self._steps(samples)
        found = self.log_z("forward", steps)
        if samples is not None and found.effective < LEAST_EFFECTIVE <= self.ais_chains:
            raise ValueError(
                f"samples: annealed importance sampling over {steps} temperatures gives log Z = "
                f"{found.value:.1f} +- {found.error:.1f}, from {found.effective:.1f} of its "
                f"{self.ais_chains} chains; take more, e.g. samples={10 * steps}"
            )
        return found.value

    def other_estimates(self, samples: int | None) -> dict[str, tuple[float, float]]:
        """That of reverse annealing, where log Z is estimated."""
        if listable(self.machine):
            return {}
        forward, reverse = (self.log_z(name, self._steps(samples)) for name in ("forward", "reverse"))
        return {"AIS": (0.0, forward.error), "reverse AIS": (reverse.value - forward.value, reverse.error)}

    @torch.no_grad()
    def log_z(self, how: str, temperatures: int = 0) -> LogZ:
        """log Z "exact", or by annealed importance sampling "forward" or "reverse".

        A function of the weights and the chains, and computed once for them.
        """
        parts = (self.weight, self.visible, self.hidden, self.mu, self.chain)
        same = len(self._found_of) == len(parts) and all(
            a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
            for a, b in zip(parts, self._found_of, strict=True)
        )
        if not same:
            self._found, self._found_of = {}, tuple(part.detach().clone() for part in parts)
        key = (how, temperatures)
        if key not in self._found:
            self._found[key] = exact(self.machine) if how == "exact" else self._annealed(how, temperatures)
        return self._found[key]

    def _annealed(self, how: str, temperatures: int) -> LogZ:
        draw = torch.Generator(self.weight.device).manual_seed(0)
        path = Annealed(self.machine, self._log_odds(), temperatures, draw)
        if how == "forward":
            return path.forward(self.ais_chains)
        rows = torch.arange(self.ais_chains, device=self.chain.device) % len(self.chain)
        v = self.units(self.chain[rows])
        for _ in track(range(self.chain_steps), "step"):
            v = path.step(v, 1.0)
        return path.reverse(v)

    # Images

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """From where the chains of the training are, `chain_steps` steps on."""
        return self._drawn(n, self.chain_steps, temperature)

    def _measure_sample(self, n: int, *y: Tensor) -> object:
        return self._drawn(n, 1, 1.0)

    def _drawn(self, n: int, steps: int, temperature: float) -> Tensor:
        rows = torch.randint(len(self.chain), (n,), device=self.chain.device)
        v = self.gibbs(self.units(self.chain[rows]), steps, temperature)
        return self._images(v)

    def _complete(self, x: Tensor, known: Tensor, *y: Tensor) -> Tensor:
        """`chain_steps` steps in which what is known stays; the rest starts from noise."""
        return self._completed(x, known, self.chain_steps)

    def _measure_complete(self, x: Tensor, known: Tensor, *y: Tensor) -> object:
        return self._completed(x, known, 1)

    def _completed(self, x: Tensor, known: Tensor, steps: int) -> Tensor:
        start = torch.where(known, x, torch.randint_like(x, 2))
        return self._images(self.gibbs(self.units(start), steps, known=known.flatten(1)))

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """p(h_j = 1 | v) of each hidden unit."""
        return torch.sigmoid(self.machine.inputs(self.units(x)))

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The more probable level of each pixel, given hidden units at z."""
        return self._images((self.machine.outputs(z) > 0).to(z.dtype))

    def _images(self, v: Tensor) -> Tensor:
        """v [B, D] -> uint8 [B, C, H, W]."""
        return v.to(torch.uint8).view(-1, *self.spec.shape)
