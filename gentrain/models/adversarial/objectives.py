"""What the two players of a GAN minimise, as functions of the discriminator's outputs.

[1] Goodfellow et al. 2014, "Generative Adversarial Networks", arXiv:1406.2661.
[2] Mao et al. 2017, "Least Squares Generative Adversarial Networks", arXiv:1611.04076.
[3] Lim & Ye 2017, "Geometric GAN", arXiv:1705.02894.
[4] Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957.
[5] Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028.
[6] Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", arXiv:1801.04406.
[7] Donahue et al. 2017, "Adversarial Feature Learning", arXiv:1605.09782.

`real` and `fake` are the outputs [B] of the discriminator's last, linear layer for images and for the
generator's. In [1] its probability that an image is real is the sigmoid of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from gentrain.layers.settings import check_choice


@dataclass(frozen=True)
class Objective:
    """What each player minimises.

    Args:
        discriminator: (real [B], fake [B]) -> scalar.
        generator: fake [B] -> scalar.
        probability: the sigmoid of an output is a probability, so that is what is logged of it.
        penalised: `gradient_penalty` joins the discriminator's.
        saturation: mean logged outputs (real, fake) beyond which the discriminator has won and teaches
            nothing; None where it may go on as far as it can.
        mirrored: output [B] -> the output that says the opposite of it as surely, [B].
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    probability: bool
    penalised: bool
    saturation: tuple[float, float] | None
    mirrored: Callable[[Tensor], Tensor] = torch.neg

    def encoder(self, real: Tensor) -> Tensor:
        """real [B] -> scalar: what an encoder minimises, whose pairs (x, E(x)) are the real ones.

        It wants them taken for fake as much as the generator wants its own taken for real [7].
        """
        return self.generator(self.mirrored(real))

    def logged(self, output: Tensor) -> Tensor:
        """[B] -> scalar: the mean probability of being real, or the mean output without one."""
        return (output.sigmoid() if self.probability else output).mean()


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), [1] equation 1 with the sign turned."""
    return softplus(-real).mean() + softplus(fake).mean()


def minimax(fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))), [1] equation 1: vanishing gradient where the discriminator is sure."""
    return -softplus(fake).mean()


def nonsaturating(fake: Tensor) -> Tensor:
    """-E log D(G(z)), [1] section 3: the same fixed point, a strong gradient early on."""
    return softplus(-fake).mean()


def least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """[2] equation 9: 1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2, the 0-1 coding."""
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def least_squares_generator(fake: Tensor) -> Tensor:
    """[2] equation 9: 1/2 E (D(G(z)) - 1)^2."""
    return 0.5 * (fake - 1).square().mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), [3]; [4] equation 16 with the sign turned."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x), the first two terms of [5] equation 3."""
    return fake.mean() - real.mean()


def minus_mean(fake: Tensor) -> Tensor:
    """-E D(G(z)), the generator's under `hinge` and `wasserstein`; [4] equation 17, [5] algorithm 1."""
    return -fake.mean()


def one_minus(output: Tensor) -> Tensor:
    """The opposite of an output where 1 is real and 0 fake."""
    return 1 - output


def gradient_penalty(
    discriminator: nn.Module, real: Tensor | Sequence[Tensor], fake: Tensor | Sequence[Tensor]
) -> Tensor:
    """E (|grad D(y)|_2 - 1)^2 at y between real and fake images, the last term of [5] equation 3.

    y = e x + (1 - e) G(z) with e ~ U[0, 1] for each example. At least float32 and without autocast: half
    precision has too few digits for a gradient of a gradient.

    Args:
        discriminator: what it is shown, [B, ...] each -> [B], each output a function of its example alone.
        real, fake: what it is shown. Of several tensors the gradient is that of all numbers together; those
            that are not floating (labels, captions) are the same in both, and given as they are.
    """
    dtype = next(discriminator.parameters()).dtype
    pairs = list(zip(*((part,) if isinstance(part, Tensor) else part for part in (real, fake)), strict=True))
    first = pairs[0][0]
    e = torch.rand(len(first), 1, 1, 1, dtype=dtype, device=first.device)
    between = [
        torch.lerp(b.to(dtype), a.to(dtype), e.view(-1, *[1] * (a.ndim - 1))) if a.is_floating_point() else a
        for a, b in pairs
    ]
    return (_slopes(discriminator, between).norm(dim=1) - 1).square().mean()


def zero_centred_penalty(discriminator: nn.Module, real: Sequence[Tensor]) -> Tensor:
    """E |grad D(x)|^2 at real images, twice R1 without its weight, [6] equation 9; precision as above.

    Args:
        discriminator: what it is shown, [B, ...] each -> [B].
        real: what it is shown of real images.
    """
    dtype = next(discriminator.parameters()).dtype
    shown = [part.to(dtype) if part.is_floating_point() else part for part in real]
    return _slopes(discriminator, shown).square().sum(1).mean()


def _slopes(discriminator: nn.Module, shown: Sequence[Tensor]) -> Tensor:
    """The gradient of each output by all floating numbers of its example: [B, numbers]."""
    shown = [part.detach().requires_grad_() if part.is_floating_point() else part for part in shown]
    moving = [part for part in shown if part.requires_grad]
    with torch.autocast(shown[0].device.type, enabled=False):
        output = discriminator(*shown)
        gradients = torch.autograd.grad(output.sum(), moving, create_graph=True)
        return torch.cat([part.flatten(1) for part in gradients], dim=1)


#: The objectives by name. Probabilities saturate at 0 and 1, and so do least squares, whose best
#: output is the same p(x) / (p(x) + p_G(x)); the hinge where outputs leave its margins behind.
OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(cross_entropy, minimax, True, False, (0.99, 0.01)),
    "nonsaturating": Objective(cross_entropy, nonsaturating, True, False, (0.99, 0.01)),
    "lsgan": Objective(least_squares, least_squares_generator, False, False, (0.99, 0.01), one_minus),
    "hinge": Objective(hinge, minus_mean, False, False, (1.5, -1.5)),
    "wgan_gp": Objective(wasserstein, minus_mean, False, True, None),
}


def objective_named(name: str) -> Objective:
    """The objective `name`, one of `OBJECTIVES`.

    Raises:
        ValueError: an unknown name.
    """
    check_choice("objective", name, tuple(OBJECTIVES))
    return OBJECTIVES[name]
