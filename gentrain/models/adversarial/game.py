"""A game of two players: a generator and a discriminator that learn in turns.

[1] Goodfellow et al. 2014, "Generative Adversarial Networks", arXiv:1406.2661.
[2] Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028.
[3] Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", arXiv:2006.10738.
[4] Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", arXiv:1801.04406.
[5] Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958.
[6] Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gentrain.buffers import buffers_kept
from gentrain.contracts import Batch, DataSpec, GenerativeModel, Landmark, Turn
from gentrain.layers.augmentation import DiffAugment
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.settings import check_positive, check_weight
from gentrain.models.adversarial.objectives import gradient_penalty, objective_named, zero_centred_penalty

#: A generator has collapsed where `diversity` had reached the first number and falls below the second. Two
#: images in equal shares have about half of the variance of all images, hence a `diversity` of about 0.7; at
#: 0.25 it is a sixteenth. A low one alone says nothing: with small initial weights every run starts at 0.25
#: or less, and stays there where the discriminator tells all images apart.
DIVERSE, COLLAPSED = 0.5, 0.25

#: What a discriminator is shown of a batch: images, and what belongs to each of them.
Shown = tuple[Tensor, ...]


class Contest(NamedTuple):
    """What the discriminator is shown of a batch and of the generator, and what the generator made it from.

    real, fake: images [B, C, H, W] in [-1, 1] first; drawn: z [B, D], a code, ...: the discriminator does not
    see it, `Adversarial.extra` does.
    """

    real: Shown
    fake: Shown
    drawn: Shown


class Game(GenerativeModel):
    """A generator G against a discriminator D [1]; what G is given is a member's to say.

    A step is the discriminator's turn, then in every `n_critic`-th step the generator's, each on the same
    images and with noise of its own. A turn moves no parameter, no gradient and no buffer of the other
    player: the other one's BatchNorm layers normalise with the batch at hand, as always in training, but
    their running statistics stay, and so do spectral norm's vectors. The discriminator's statistics are of
    its own turn (first the real batch, then the fake one), the generator's of its own.

    A member sets `generator` and `discriminator`, and says by `contestants` what the discriminator is shown,
    by `refused` what else it is to take for fake, by `extra` what a turn minimises besides, by `players`
    which networks move in it, by `look` what else the discriminator finds.

    What the discriminator judges is augmented in both turns, real and fake [3]; penalties see images as they
    are. Spectral norm [6], where a member has it, is computed once in a turn.

    Args:
        spec: what the images are.
        objective: one of `objectives.OBJECTIVES`.
        penalty_weight: lambda of [2] equation 3; objectives that are not penalised ignore it.
        n_critic: the discriminator's turns per turn of the generator.
        augment: of `layers.augmentation.AUGMENTATIONS`, in this order; empty: none.
        r1_weight: gamma of R1, [4] equation 9: gamma / 2 times the mean square of D's slope at real images
            joins what the discriminator minimises; 0: it does not.
        r1_every: steps between two of R1's turns, which count so many times [5] section 3.1 (lazy).

    Raises:
        ValueError: a setting out of its range.
    """

    merit = None
    #: Settings that came later: what the model was without.
    formerly: ClassVar[Mapping[str, Any]] = {"augment": [], "r1_weight": 0.0, "r1_every": 16}
    #: Whether real and fake are judged in one pass: half the launches, for a discriminator whose outputs are
    #: functions of their example alone (no BatchNorm).
    one_pass: bool = False
    training_only: ClassVar[tuple[str, ...]] = ("discriminator",)

    #: What it is given -> images [B, C, H, W] in [-1, 1].
    generator: nn.Module
    #: What it is shown -> [B], the higher the more real.
    discriminator: nn.Module

    def __init__(
        self,
        spec: DataSpec,
        *,
        objective: str,
        penalty_weight: float,
        n_critic: int,
        augment: Sequence[str],
        r1_weight: float,
        r1_every: int,
    ) -> None:
        super().__init__(spec)
        check_positive("n_critic", n_critic)
        check_positive("r1_every", r1_every)
        check_weight("penalty_weight", penalty_weight)
        check_weight("r1_weight", r1_weight)
        self.objective = objective_named(objective)
        self.penalty_weight, self.r1_weight, self.r1_every = penalty_weight, r1_weight, r1_every
        self.augment = DiffAugment(augment)
        self.n_critic = n_critic
        self._most_diverse = 0.0  # the largest `diversity` that `warnings` has seen in this session

    # What a member may say

    def players(self) -> dict[str, list[nn.Module]]:
        """{turn: the networks that move in it}."""
        return {"discriminator": [self.discriminator], "generator": [self.generator]}

    def contestants(self, batch: Batch) -> Contest:
        """What the discriminator is shown of `batch`, and of as many fakes."""
        raise TypeError(f"{type(self).__name__} does not define contestants()")

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """What `turn` minimises besides its objective, None: nothing; and what it logs.

        `found`: what `look` found in the fakes besides the discriminator's output.
        """
        return None, {}

    def refused(self, contest: Contest) -> Shown | None:
        """What the discriminator is to take for fake besides the fakes, as much as them; None: nothing."""
        return None

    def look(self, *shown: Tensor) -> tuple[Tensor, Tensor | None]:
        """The discriminator's output [B] for what it is shown, and what else it finds there, [B, ...]."""
        return self.discriminator(*shown), None

    # Learning

    def turns(self) -> list[Turn]:
        """The discriminator's, then the generator's; [1] algorithm 1. Between them R1's, if it is on."""
        nets, twice = self.players(), self.objective.penalised
        found = [
            Turn("discriminator", nets["discriminator"], self.discriminator_loss, double_backward=twice),
            Turn("generator", nets["generator"], self.generator_loss, every=self.n_critic),
        ]
        if self.r1_weight:
            how: dict[str, Any] = {"double_backward": True, "shares": "discriminator"}
            found.insert(1, Turn("r1", [self.discriminator], self.r1_loss, every=self.r1_every, **how))
        return found

    def _augmented(self, shown: Shown) -> Shown:
        return (self.augment(shown[0]), *shown[1:])

    def _looked(self, shown: Shown) -> tuple[Tensor, Tensor | None]:
        output, found = self.look(*self._augmented(shown))
        return at_least_float32(output), found

    def judged(self, shown: Shown) -> Tensor:
        """The discriminator's output [B], in float32 at least, for images that are augmented first."""
        return self._looked(shown)[0]

    def _both_judged(self, contest: Contest) -> tuple[Tensor, Tensor, Tensor | None]:
        """(D of real [B], D of fake [B], what else was found in the fakes)."""
        if not self.one_pass:
            return self.judged(contest.real), *self._looked(contest.fake)
        both = tuple(torch.cat(pair) for pair in zip(contest.real, contest.fake, strict=True))
        output, found = self._looked(both)
        n = len(contest.real[0])
        return output[:n], output[n:], None if found is None else found[n:]

    def discriminator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's objective on a batch of images and as many of the generator's.

        Logs `d_real` and `d_fake`, the means of D over what is real and fake: probabilities where the
        objective has them, outputs else; `d_refused` of what else is to be taken for fake; and `penalty`
        where there is one, before its weight.
        """
        with _weights_once():
            with torch.no_grad(), buffers_kept(*self.players()["generator"]):
                contest = self.contestants(batch)
            d_real, d_fake, found = self._both_judged(contest)
            terms = {"d_real": self.objective.logged(d_real), "d_fake": self.objective.logged(d_fake)}
            refused = self.refused(contest)
            if refused is not None:
                d_refused = self.judged(refused)
                terms["d_refused"] = self.objective.logged(d_refused)
                d_fake = torch.cat([d_fake, d_refused])
            loss = self.objective.discriminator(d_real, d_fake)
            if self.objective.penalised:
                with buffers_kept(self.discriminator):
                    penalty = gradient_penalty(self.discriminator, contest.real, contest.fake)
                loss = loss + self.penalty_weight * penalty
                terms["penalty"] = penalty
            return self._with_extra("discriminator", loss, terms, batch, contest, found)

    def r1_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """R1 [4] equation 9, times the steps between two of its turns; logs `slope`, E |grad D(x)|^2."""
        with _weights_once():
            with torch.no_grad(), buffers_kept(*self.players()["generator"], self.discriminator):
                contest = self.contestants(batch)
            with buffers_kept(self.discriminator):
                slope = zero_centred_penalty(self.discriminator, contest.real)
        # The slope has no gradient by some biases; 0 for those, as ranks want one for every parameter.
        tied = 0 * torch.stack([p.sum() for p in self.discriminator.parameters() if p.requires_grad]).sum()
        return self.r1_every * self.r1_weight / 2 * slope + tied, {"slope": slope}

    def generator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's objective on as many draws as there are images.

        Logs `diversity`, how much the draws vary: the mean over pixels of their standard deviation over
        the batch, relative to the images'. 0: all are the same; about 1: as different as the images.
        """
        with _weights_once():
            contest = self.contestants(batch)
            with buffers_kept(*self.players()["discriminator"]):
                d_fake, found = self._looked(contest.fake)
                loss = self.objective.generator(d_fake)
                with torch.no_grad():
                    terms = {"diversity": spread(contest.fake[0]) / spread(contest.real[0])}
                return self._with_extra("generator", loss, terms, batch, contest, found)

    def _with_extra(
        self,
        turn: str,
        loss: Tensor,
        terms: dict[str, Tensor],
        batch: Batch,
        contest: Contest,
        found: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        more, more_terms = self.extra(turn, batch, contest, found)
        return loss if more is None else loss + more, {**terms, **more_terms}

    # Being watched

    def landmarks(self) -> list[Landmark]:
        """Of the minimax game its value and D(G(z)) at the optimum, [1] theorem 1: -log 4 and 1/2."""
        if not self.objective.probability or self.objective.penalised:
            return []
        marks = [Landmark("loss/discriminator/d_fake", 0.5, "1/2: it cannot tell", "D(G(z))")]
        if type(self).extra is Game.extra:  # else there is more in the loss than the game
            at, words = -math.log(4), "-log 4: the optimum"
            marks.append(Landmark("loss/discriminator/total", at, words, "value of the game V(D, G)", -1))
        return marks

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line where the discriminator has won, and one where the samples have become all alike."""
        found = []
        d_real = figures.get("loss/discriminator/d_real", math.nan)
        d_fake = figures.get("loss/discriminator/d_fake", math.nan)
        limits = self.objective.saturation
        if limits is not None and d_real > limits[0] and d_fake < limits[1]:
            found.append(
                f"the discriminator tells all images apart (d_real above {limits[0]}, d_fake below "
                f"{limits[1]}) and the generator learns little from it; lower optim.discriminator.lr, or "
                "set model.objective=wgan_gp model.n_critic=5"
            )
        diversity = figures.get("loss/generator/diversity", math.nan)
        if diversity > self._most_diverse:  # false for not-a-number
            self._most_diverse = diversity
        if self._most_diverse >= DIVERSE and diversity < COLLAPSED:
            found.append(
                f"the samples have become nearly all alike (diversity below {COLLAPSED} of the images'): the "
                "generator has collapsed; lower optim.generator.lr, or set model.objective=wgan_gp "
                "model.n_critic=5"
            )
        return found


def _weights_once() -> AbstractContextManager[None]:
    """Context in which a weight that is computed, as by spectral norm, is computed once."""
    if torch.compiler.is_compiling():
        return nullcontext()
    return parametrize.cached()


def spread(images: Tensor) -> Tensor:
    """[B, C, H, W] -> the mean over pixels of their standard deviation over the batch."""
    return images.std(0, correction=0).mean()
