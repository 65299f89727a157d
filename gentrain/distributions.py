"""Distributions p(x|...) over the grey levels 0 .. levels-1 of a pixel, which torch lacks.

Each takes values as float or integer, knows its `mean` in level units, and computes in float32 at
least. `pixel_distribution` makes one from the output of a network.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions import bernoulli as _bernoulli
from torch.distributions import categorical as _categorical

LIKELIHOODS = ("auto", "bernoulli", "logistic_mixture", "categorical")

#: |log_scales| beyond this is cut, so that no scale overflows float32 in value or gradient.
LOG_SCALE_BOUND = 20.0
#: Smallest log scale that `pixel_distribution` lets a network ask for (Salimans et al. 2017's code).
MIN_LOG_SCALE = -7.0


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

    def _in_levels(self) -> tuple[Tensor, Tensor]:
        """Means and inverse scales in level units, where neighbouring levels are 1 apart."""  # [..., K]
        half_range = (self.levels - 1) / 2
        return (self.means + 1) * half_range, torch.exp(-self.log_scales) / half_range

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(value), shape of `value` broadcast with the batch shape; in nats."""
        if self._validate_args:
            self._validate_sample(value)
        means, inverse_scales = self._in_levels()
        x = value.to(means.dtype).unsqueeze(-1)  # [..., 1]
        centred = x - means
        above = (centred + 0.5) * inverse_scales  # upper edge of the bin, [..., K]
        below = (centred - 0.5) * inverse_scales  # lower edge
        # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)), and a - b is the inverse scale:
        # unlike the difference of two sigmoids this loses no digits in the tails.
        log_cdf = F.logsigmoid(above).masked_fill(x >= self.levels - 1, 0.0)
        log_survival = F.logsigmoid(-below).masked_fill(x <= 0, 0.0)
        at_edge = (x <= 0) | (x >= self.levels - 1)
        log_width = torch.log(-torch.expm1(-inverse_scales)).masked_fill(at_edge, 0.0)
        log_weights = F.log_softmax(self.logits, dim=-1)
        return torch.logsumexp(log_weights + log_cdf + log_survival + log_width, dim=-1)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - torch's own signature
        """Exact draws, float, shape `sample_shape` + batch shape."""
        with torch.no_grad():
            means, inverse_scales = self._in_levels()
            which = _categorical.Categorical(logits=self.logits, validate_args=False)
            k = which.sample(sample_shape).unsqueeze(-1)  # [..., 1]
            shape = (*k.shape[:-1], self.logits.shape[-1])
            mean = means.expand(shape).gather(-1, k).squeeze(-1)
            inverse_scale = inverse_scales.expand(shape).gather(-1, k).squeeze(-1)
            u = torch.rand_like(mean).clamp_min(torch.finfo(mean.dtype).tiny)
            logistic = torch.log(u) - torch.log1p(-u)
            return (mean + logistic / inverse_scale).round().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The exact expectation in level units, shape [...]."""
        means, inverse_scales = self._in_levels()
        weights = torch.softmax(self.logits, dim=-1)
        total = torch.zeros_like(means)
        # E[x] = sum over levels v >= 1 of P(x >= v). One level at a time, since all of them at once
        # would take `levels` times the memory of the parameters.
        for v in range(1, self.levels):
            total = total + torch.sigmoid((means - (v - 0.5)) * inverse_scales)
        return (weights * total).sum(-1)


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


def _resolve(likelihood: str, levels: int, mixtures: int) -> str:
    """The likelihood that "auto" stands for; refuses what does not fit."""
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"model.likelihood must be one of {', '.join(LIKELIHOODS)}, found {likelihood!r}")
    if likelihood == "auto":
        likelihood = "bernoulli" if levels == 2 else "logistic_mixture"
    if likelihood == "bernoulli" and levels != 2:
        raise ValueError(
            f"model.likelihood=bernoulli expects images of 2 levels, found {levels}; "
            "binarise them (dataset.binarize=dynamic) or set model.likelihood=auto"
        )
    if likelihood == "logistic_mixture" and mixtures < 1:
        raise ValueError(f"model.mixtures must be at least 1, found {mixtures}")
    return likelihood


def pixel_parameters(likelihood: str, levels: int, mixtures: int) -> int:
    """P, the number of parameters of `pixel_distribution` per pixel value.

    Args:
        likelihood: one of `LIKELIHOODS`; "auto" is bernoulli for two levels, else logistic_mixture.
        levels: grey levels of a pixel.
        mixtures: components of a logistic mixture; the others ignore it.

    Raises:
        ValueError: an unknown likelihood, bernoulli where levels is not 2, or mixtures below 1.
    """
    likelihood = _resolve(likelihood, levels, mixtures)
    return {"bernoulli": 1, "logistic_mixture": 3 * mixtures, "categorical": levels}[likelihood]


def initial_pixel_parameters(likelihood: str, levels: int, mixtures: int) -> Tensor:
    """[P] values to start a network's output at: a broad distribution with distinct components."""
    likelihood = _resolve(likelihood, levels, mixtures)
    if likelihood != "logistic_mixture":
        return torch.zeros(pixel_parameters(likelihood, levels, mixtures))
    # Equal components would get equal gradients, and the mixture would start out as one.
    means = (torch.arange(mixtures) + 0.5) * (2 / mixtures) - 1
    log_scales = torch.full((mixtures,), -math.log(2 * mixtures))
    return torch.cat([torch.zeros(mixtures), means, log_scales])


def pixel_distribution(params: Tensor, likelihood: str, levels: int, mixtures: int) -> Independent:
    """p(x|...) of images with independent pixel values, from a network's output.

    Args:
        params: [B, P * C, H, W], P from `pixel_parameters`; the P * C channels are P groups of C. Half
            precision is widened to float32.
        likelihood, levels, mixtures: as in `pixel_parameters`.

    Returns:
        Batch shape [B], event shape [C, H, W]; `mean` and values in level units. Arguments are not
        validated, since that would wait for the device.

    Raises:
        ValueError: as `pixel_parameters`; a number of channels that P does not divide.
    """
    likelihood = _resolve(likelihood, levels, mixtures)
    per_value = pixel_parameters(likelihood, levels, mixtures)
    if params.ndim != 4 or params.shape[1] % per_value:
        raise ValueError(f"params must be [B, {per_value} * C, H, W], found {list(params.shape)}")
    if params.dtype in (torch.float16, torch.bfloat16):
        params = params.float()
    params = params.unflatten(1, (per_value, -1))  # [B, P, C, H, W]
    base: Distribution
    if likelihood == "bernoulli":
        return IndependentBernoulli(
            Bernoulli(logits=params.squeeze(1), validate_args=False), 3, validate_args=False
        )
    if likelihood == "categorical":
        base = Categorical(logits=params.movedim(1, -1), validate_args=False)
    else:
        logits, means, log_scales = params.movedim(1, -1).chunk(3, dim=-1)  # [B, C, H, W, K] each
        log_scales = log_scales.clamp_min(MIN_LOG_SCALE)
        base = DiscretizedLogisticMixture(logits, means, log_scales, levels, validate_args=False)
    return Independent(base, 3, validate_args=False)
