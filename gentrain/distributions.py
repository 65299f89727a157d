"""Distributions p(x|...) over the grey levels 0 .. levels-1 of a pixel, which torch lacks.

Each takes values as float or integer, knows its `mean` in level units, and computes in float32 at
least. `Pixels` makes one from the output of a network.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions import bernoulli as _bernoulli
from torch.distributions import categorical as _categorical

#: |log_scales| beyond this is cut, so that no scale overflows float32 in value or gradient.
LOG_SCALE_BOUND = 20.0
#: Smallest log scale that `Pixels` lets a network ask for (Salimans et al. 2017's code).
MIN_LOG_SCALE = -7.0


def _in_levels(means: Tensor, log_scales: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Means and inverse scales in level units, where neighbouring levels are 1 apart."""
    half_range = (levels - 1) / 2
    return (means + 1) * half_range, torch.exp(-log_scales) / half_range


class DiscretizedLogisticMixture(Distribution):
    """A mixture of logistic distributions, integrated over the bin of each grey level.

    Salimans et al. 2017, "PixelCNN++", section 2.1, equation 2: with s a component's scale and m its
    mean, P(x) = sigma((x + 1/2 - m) / s) - sigma((x - 1/2 - m) / s), where -1/2 becomes minus infinity
    for the lowest level and +1/2 infinity for the highest. The probabilities of all levels sum to one.

    Args:
        logits: [..., K], unnormalised log weights of the K components.
        means: [..., K], on the scale where level 0 is -1 and level `levels - 1` is 1.
        log_scales: [..., K], natural logarithm of the scales, on the same scale; beyond
            +-`LOG_SCALE_BOUND` they are cut.
        levels: number of grey levels, at least 2.

    Batch shape [...], event shape []; values are 0 .. levels-1.

    Raises:
        ValueError: levels below 2.
    """

    arg_constraints = {  # noqa: RUF012 - torch's own convention
        "logits": constraints.real_vector,
        "means": constraints.real_vector,
        "log_scales": constraints.real_vector,
    }

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        levels: int,
        validate_args: bool | None = None,
    ) -> None:
        if levels < 2:
            raise ValueError(f"levels must be at least 2, found {levels}")
        self.logits, self.means, log_scales = torch.broadcast_tensors(logits, means, log_scales)
        self.log_scales = log_scales.clamp(-LOG_SCALE_BOUND, LOG_SCALE_BOUND)
        self.levels = levels
        super().__init__(self.logits.shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        """The integers 0 .. levels-1."""
        return constraints.integer_interval(0, self.levels - 1)

    def expand(
        self, batch_shape: Any, _instance: DiscretizedLogisticMixture | None = None
    ) -> DiscretizedLogisticMixture:
        """This distribution with its batch shape broadcast to `batch_shape`."""
        new = self._get_checked_instance(DiscretizedLogisticMixture, _instance)
        batch_shape = Size(batch_shape)
        for name in ("logits", "means", "log_scales"):
            old = getattr(self, name)
            setattr(new, name, old.expand(batch_shape + old.shape[-1:]))
        new.levels = self.levels
        super(DiscretizedLogisticMixture, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(value), shape of `value` broadcast with the batch shape; in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.logsumexp(self.log_joint(value), dim=-1)

    def log_joint(self, value: Tensor) -> Tensor:
        """log P(k, value), of each component; [..., K]."""
        means, inverse_scales = _in_levels(self.means, self.log_scales, self.levels)
        x = value.to(means.dtype).unsqueeze(-1)  # [..., 1]
        centred = x - means
        above = (centred + 0.5) * inverse_scales  # upper edge of the bin, [..., K]
        below = (centred - 0.5) * inverse_scales  # lower edge
        # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)), and a - b is the inverse scale:
        # unlike the difference of two sigmoids this loses no digits in the tails.
        lowest, highest = x <= 0, x >= self.levels - 1
        log_cdf = F.logsigmoid(above).masked_fill(highest, 0.0)
        log_survival = F.logsigmoid(-below).masked_fill(lowest, 0.0)
        log_width = torch.log(-torch.expm1(-inverse_scales)).masked_fill(lowest | highest, 0.0)
        log_weights = F.log_softmax(self.logits, dim=-1)
        return log_weights + log_cdf + log_survival + log_width

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - torch's own signature
        """Exact draws, float, shape `sample_shape` + batch shape."""
        with torch.no_grad():
            means, inverse_scales = _in_levels(self.means, self.log_scales, self.levels)
            which = _categorical.Categorical(logits=self.logits, validate_args=False)
            k = which.sample(sample_shape).unsqueeze(-1)  # [..., 1]
            shape = (*k.shape[:-1], self.logits.shape[-1])
            mean, inverse_scale = (x.expand(shape).gather(-1, k).squeeze(-1) for x in (means, inverse_scales))
            u = torch.rand_like(mean).clamp_min(torch.finfo(mean.dtype).tiny)
            logistic = torch.log(u) - torch.log1p(-u)
            return (mean + logistic / inverse_scale).round().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The exact expectation in level units, shape [...]."""
        means, inverse_scales = _in_levels(self.means, self.log_scales, self.levels)
        total = torch.zeros_like(means)
        # E[x] = sum over levels v >= 1 of P(x >= v), one at a time: all would take `levels` times the memory.
        for v in range(1, self.levels):
            total = total + torch.sigmoid((means - (v - 0.5)) * inverse_scales)
        return (torch.softmax(self.logits, dim=-1) * total).sum(-1)


class Bernoulli(_bernoulli.Bernoulli):
    """torch's Bernoulli, which takes integer values too; its mean is in level units as it is."""

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(value) in nats."""
        return super().log_prob(value.to(self._param.dtype))


class _LogProbabilityOfBits(torch.autograd.Function):
    """sum_i x_i l_i - log(1 + e^(l_i)) over all dimensions of an event, l logits and x in {0, 1}.

    log(1 + e^l) = max(l, 0) + log(1 + e^(-|l|)), and the sum of the last terms is the logarithm of a
    product of factors in (1, 2]: one logarithm for up to 64 pixels, which do not overflow float32. Where
    the loops are compiled the logarithms are what costs. autograd would differentiate the product.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        """logits and x [B, ...] of the same shape -> [B] in nats."""
        ctx.save_for_backward(logits, x)
        logits, x = logits.flatten(1), x.flatten(1)  # [B, N]
        count = logits.shape[1]
        # As many pixels to a logarithm as leave whole vectors of 16 float32 beside one another.
        together = max((n for n in range(1, 65) if count % (16 * n) == 0), default=1)
        factors = (1 + torch.exp(-logits.abs())).unflatten(1, (together, -1))
        return (x * logits - logits.clamp_min(0)).sum(1) - factors.prod(1).log().sum(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """[B] -> the gradients of logits and x."""
        logits, x = ctx.saved_tensors
        grad = grad.reshape(-1, *[1] * (logits.ndim - 1))
        return grad * (x - logits.sigmoid()), grad * logits if ctx.needs_input_grad[1] else None


def _log_probability_of_bits(logits: Tensor, x: Tensor) -> Tensor:
    """sum_i log sigma(u_i) over all dimensions of an event, u = l where x = 1 and -l where x = 0.

    The same as `_LogProbabilityOfBits`, from the operations that are quickest uncompiled: log sigma(u) =
    min(u, 0) + log sigma(|u|), and the sum of the last terms is the logarithm of a product of factors in
    [1/2, 1): one logarithm for up to 64 pixels, which do not underflow float32. Has no gradient.

    logits [B, ...], x in {0, 1} that broadcasts with it -> [B] in nats.
    """
    u = (logits * x.to(logits.dtype).mul_(2).sub_(1)).flatten(1)  # [B, N]
    count = u.shape[1]
    together = max(n for n in range(1, 65) if count % n == 0)
    below = u.clamp_max(0).sum(1)
    return below + u.abs_().sigmoid_().unflatten(1, (-1, together)).prod(-1).log_().sum(1)


class IndependentBernoulli(Independent):
    """`Independent` over a `Bernoulli` with logits, whose `log_prob` is quick compiled and in inference mode.

    Batch shape [B], event shape [C, H, W].
    """

    base_dist: Bernoulli

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(value), [B] in nats; value broadcasts with [B, C, H, W]."""
        logits = self.base_dist.logits
        if torch.compiler.is_compiling():
            values = value.to(logits)
            return cast(Tensor, _LogProbabilityOfBits.apply(*torch.broadcast_tensors(logits, values)))
        if torch.is_inference_mode_enabled():
            return _log_probability_of_bits(logits, value)
        return super().log_prob(value)


class Categorical(_categorical.Categorical):
    """torch's Categorical over the grey levels, with a mean in level units."""

    @property
    def mean(self) -> Tensor:
        """The expectation in level units, shape [...]."""
        levels = torch.arange(self._num_events, dtype=self.logits.dtype, device=self.logits.device)
        return self.probs @ levels


@dataclass(frozen=True)
class Pixels(ABC):
    """p(x|...) of images with independent pixel values, as one network's output parametrises it.

    `Pixels.of` makes one by name. A network gives P numbers for each pixel value; its P * C channels are P
    groups of C.

    Args:
        levels: grey levels of a pixel.
    """

    levels: int

    @staticmethod
    def of(likelihood: str, levels: int, mixtures: int) -> Pixels:
        """The kind `likelihood`, one of `LIKELIHOODS`.

        Args:
            likelihood: "auto" is bernoulli for two levels, else logistic_mixture.
            levels: grey levels of a pixel.
            mixtures: components of a logistic mixture; the others ignore it.

        Raises:
            ValueError: an unknown likelihood, bernoulli where levels is not 2, or mixtures below 1.
        """
        if likelihood not in LIKELIHOODS:
            choices = ", ".join(LIKELIHOODS)
            raise ValueError(f"model.likelihood must be one of {choices}, found {likelihood!r}")
        if likelihood == "auto":
            likelihood = "bernoulli" if levels == 2 else "logistic_mixture"
        return _KINDS[likelihood](levels, mixtures)

    @staticmethod
    def softmax(levels: int) -> Pixels:
        """Any distribution over the levels: Bernoulli of two, categorical of more."""
        return Pixels.of("bernoulli" if levels == 2 else "categorical", levels, 0)

    @property
    @abstractmethod
    def parameters(self) -> int:
        """P, how many numbers a pixel value has."""

    def start(self, channels: int) -> Tensor:
        """[P * C] values to start a network's output at: a broad distribution."""
        return torch.zeros(self.parameters * channels)

    def distribution(self, params: Tensor) -> Independent:
        """p(x|...) from a network's output.

        Args:
            params: [B, P * C, H, W]. Half precision is widened to float32.

        Returns:
            Batch shape [B], event shape [C, H, W]; `mean` and values in level units. Arguments are not
            validated, since that would wait for the device.

        Raises:
            ValueError: a number of channels that P does not divide.
        """
        if params.ndim != 4 or params.shape[1] % self.parameters:
            raise ValueError(f"params must be [B, {self.parameters} * C, H, W], found {list(params.shape)}")
        if params.dtype in (torch.float16, torch.bfloat16):
            params = params.float()
        return self._distribution(params.unflatten(1, (self.parameters, -1)))

    @abstractmethod
    def _distribution(self, params: Tensor) -> Independent:
        """params [B, P, C, H, W] in float32 at least."""

    @abstractmethod
    def level(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """One pixel value by the inverse of its distribution function.

        Args:
            params: [n, P].
            u: [n], uniform on [0, 1): all the randomness there is.
            temperature: below 1 draws what is more typical.

        Returns:
            [n], integers or bools, 0 .. levels-1.
        """


class BernoulliPixels(Pixels):
    """Two levels; P = 1, the logit of level 1. Of other numbers of levels it is refused."""

    def __init__(self, levels: int, mixtures: int) -> None:
        if levels != 2:
            raise ValueError(
                f"model.likelihood=bernoulli expects images of 2 levels, found {levels}; "
                "binarise them (dataset.binarize=dynamic) or set model.likelihood=auto"
            )
        super().__init__(levels)

    parameters = 1

    def _distribution(self, params: Tensor) -> Independent:
        base = Bernoulli(logits=params.squeeze(1), validate_args=False)
        return IndependentBernoulli(base, 3, validate_args=False)

    def level(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The logit is divided by the temperature."""
        return torch.sigmoid(-(params / temperature)[:, 0]) <= u


class CategoricalPixels(Pixels):
    """P = levels logits, of each level its own."""

    def __init__(self, levels: int, mixtures: int) -> None:
        super().__init__(levels)

    @property
    def parameters(self) -> int:
        """One logit for each level."""
        return self.levels

    def _distribution(self, params: Tensor) -> Independent:
        base = Categorical(logits=params.movedim(1, -1), validate_args=False)
        return Independent(base, 3, validate_args=False)

    def level(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The logits are divided by the temperature."""
        # The lowest v with P(x <= v) > u; without the last entry, which rounding may leave below u.
        return ((params / temperature).softmax(1).cumsum(1)[:, :-1] <= u[:, None]).sum(1)


@dataclass(frozen=True)
class LogisticMixturePixels(Pixels):
    """`DiscretizedLogisticMixture` of K components; P = 3 K: logits, means, log scales."""

    mixtures: int

    def __post_init__(self) -> None:
        if self.mixtures < 1:
            raise ValueError(f"model.mixtures must be at least 1, found {self.mixtures}")

    @property
    def parameters(self) -> int:
        """Three numbers for each component."""
        return 3 * self.mixtures

    def start(self, channels: int) -> Tensor:
        """Distinct components: equal ones would get equal gradients, and start out as one."""
        means = (torch.arange(self.mixtures) + 0.5) * (2 / self.mixtures) - 1
        log_scales = torch.full((self.mixtures,), -math.log(2 * self.mixtures))
        return torch.cat([torch.zeros(self.mixtures), means, log_scales]).repeat_interleave(channels)

    def _mixture(self, params: Tensor) -> DiscretizedLogisticMixture:
        """params [..., P]."""
        logits, means, log_scales = params.chunk(3, dim=-1)  # [..., K] each
        log_scales = log_scales.clamp_min(MIN_LOG_SCALE)
        return DiscretizedLogisticMixture(logits, means, log_scales, self.levels, validate_args=False)

    def _distribution(self, params: Tensor) -> Independent:
        return Independent(self._mixture(params.movedim(1, -1)), 3, validate_args=False)

    def level(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """Logits of the components are divided by the temperature, their scales multiplied with it."""
        logits, means, log_scales = params.chunk(3, -1)  # [n, K] each
        log_scales = log_scales.clamp(MIN_LOG_SCALE, LOG_SCALE_BOUND) + math.log(temperature)
        means, inverse_scales = (x[..., None] for x in _in_levels(means, log_scales, self.levels))
        weights, at = (logits / temperature).softmax(-1)[:, None], u[:, None, None]

        def passed(edges: Tensor) -> Tensor:
            """Of edges between levels, [V] or [n, 1, V]: below how many no more than u lies, [n, 1, 1]."""
            below = ((edges - means) * inverse_scales).sigmoid_()  # [n, K, V]
            return (torch.bmm(weights, below) <= at).sum(-1, keepdim=True)

        # First among every 15th of 255, then among the 14 after the last of these that was passed.
        edges = torch.arange(self.levels - 1, dtype=means.dtype, device=means.device) + 0.5
        step = math.isqrt(self.levels - 1)
        first = step * passed(edges[step - 1 :: step])
        return (first + passed(edges[: step - 1] + first)).clamp_max(self.levels - 1).flatten()


_KINDS: dict[str, Callable[[int, int], Pixels]] = {
    "bernoulli": BernoulliPixels,
    "logistic_mixture": LogisticMixturePixels,
    "categorical": CategoricalPixels,
}
LIKELIHOODS = ("auto", *_KINDS)
