"""What the trainer knows of a model: its turns, its losses, and what "best" means for it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from gentrain.contracts import chunks
from gentrain.contracts.data import Batch, DataSpec

if TYPE_CHECKING:
    from gentrain.contracts.condition import Condition

Loss = Callable[[Batch, int], tuple[Tensor, dict[str, Tensor]]]
#: What "best" means: a likelihood, the loss on validation images, or nothing that could be compared.
Merit = Literal["likelihood", "loss"]


@dataclass
class Turn:
    """One player's move in a training step.

    Args:
        name: key of this turn's optimiser and schedule in the config (`optim.<name>.lr`).
        nets: the modules whose parameters this turn moves.
        loss: (batch, step) -> (scalar to minimise, {name: scalar} to log).
        every: the turn is due when `(step + 1) % every == 0`.
        double_backward: the loss differentiates through a gradient (it is then not compiled).
        changes: the steps (0-based) at which the loss becomes another function of the batch, e.g. the end of
            a warm-up; None: it does not read `step`. A step that is captured (`train.cuda_graph`) keeps the
            loss that it was captured with, so it is captured again at these steps, and a loss that reads
            `step` under None is refused.
        shares: the name of an earlier turn whose optimiser, with its schedule, this one moves with: a part of
            that turn's loss in every few steps only. None: an optimiser of its own.
    """

    name: str
    nets: Sequence[nn.Module]
    loss: Loss
    every: int = 1
    double_backward: bool = False
    changes: Sequence[int] | None = None
    shares: str | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"turn {self.name}: every must be at least 1, found {self.every}")

    def due(self, step: int) -> bool:
        """Whether this turn moves in step `step` (0-based)."""
        return (step + 1) % self.every == 0

    def form(self, step: int) -> int:
        """How many of `changes` lie at or before step `step`: equal where the loss is the same function."""
        return sum(change <= step for change in self.changes or ())

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that this turn moves, each once, in order; frozen ones are left out."""
        seen: dict[int, nn.Parameter] = {}
        for net in self.nets:
            for parameter in net.parameters():
                if parameter.requires_grad:
                    seen.setdefault(id(parameter), parameter)
        return list(seen.values())


class Landmark(NamedTuple):
    """A value of a logged figure that means something: the optimum of a game, say.

    figure: as in metrics.jsonl, `loss/<turn>/<term>`.
    value: of the figure times `sign`.
    words: what it means.
    title: what to call the figure times `sign`; None: its own name.
    sign: 1 or -1.
    """

    figure: str
    value: float
    words: str
    title: str | None = None
    sign: int = 1


class GenerativeModel(nn.Module, ABC):
    """What the trainer and the commands know of a model.

    A subclass takes the DataSpec first and its own settings as keywords (its YAML holds their
    defaults), and either defines `loss` (one turn over all parameters) or overrides `turns`. What a loss
    keeps from step to step lies in buffers, which it writes in place and in training mode only: in eval mode
    it changes nothing. What else it can do it declares by deriving from the capabilities.
    """

    #: Why a capability is missing, where the reason is worth a line: {capability: reason}.
    lacks: ClassVar[Mapping[str, str]] = {}
    #: Submodules that only training needs, such as a critic: an export may leave them out.
    training_only: ClassVar[tuple[str, ...]] = ()
    #: Whether images of another width than the spec's can be drawn: sounds that go on.
    any_length: ClassVar[bool] = False
    #: Whether the first `spec.context` samples of a sound are given, and its likelihood is of the rest.
    takes_context: ClassVar[bool] = False
    #: How many pixels back a pixel depends on at most; None: on all before it, or there is no order.
    field: int | None = None
    #: What the model is given of each image; None: nothing, it is a model of p(x).
    condition: Condition | None = None

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self._at_once: dict[tuple[object, ...], int] = {}

    # Learning

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the default turn: (scalar, {name: scalar to log})."""
        raise TypeError(f"{type(self).__name__} defines neither loss() nor turns()")

    def turns(self) -> list[Turn]:
        """The turns of one step, in order; by default one, `main`, over all parameters."""
        return [Turn("main", [self], self.loss)]

    @property
    def idle_turns(self) -> tuple[str, ...]:
        """Names of turns that its settings leave out: their optimiser and schedule may stay in the config."""
        return ()

    @property
    def merit(self) -> Merit | None:
        """What "best" means: by default the loss of the only turn; nothing for players against each other."""
        return "loss" if len(self.turns()) == 1 else None

    def data_dependent_init(self, batch: Batch) -> None:
        """Initialise from data (ActNorm, weight norm); run once, before the EMA exists."""

    # Being watched

    def healthy(self) -> str | None:
        """None, or one line that says which part went bad; asked with every log line, and stops the run."""
        return None

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """What the user should know of, one line each with a remedy; the run goes on.

        Asked with every log line; `figures` are those of the line (`loss/<turn>/<term>`,
        `grad_norm/<turn>`, ...). A warning is shown once per session.
        """
        return []

    def landmarks(self) -> list[Landmark]:
        """Values of logged figures that a report is to mark; none by default."""
        return []

    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """{name: scalar} too dear for every step; asked with every evaluation, in eval mode, and logged.

        `batch` is held out where there are validation images. What it draws or writes in buffers is undone.
        """
        return {}

    # What models compute with

    @property
    def _like(self) -> Tensor:
        """A parameter, for its dtype and device; of a model without any, torch's own."""
        return next(self.parameters(), torch.empty(0))

    def scaled(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Levels 0 .. levels-1 -> [-1, 1], in the model's dtype, unless another is given; of x's shape."""
        return x.to(dtype or self._like.dtype) * (2 / (self.spec.levels - 1)) - 1

    def levels_of(self, y: Tensor) -> Tensor:
        """[-1, 1] -> the nearest level, uint8; of y's shape. What lies outside becomes the first or last."""
        levels = self.spec.levels - 1
        return ((y + 1) / 2 * levels).round().clamp(0, levels).to(torch.uint8)

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """(y,): the batch's condition, unchecked, for a loss; () for a model of p(x)."""
        return ()

    def condition_in(self, batch: Batch) -> Tensor | None:
        """What a capability of the model takes as `condition` of the batch's images; None of p(x)."""
        return next(iter(self.given(batch)), None)

    def _checked(self, condition: Tensor | None, n: int, needed: bool = False) -> tuple[Tensor, ...]:
        """(y,): what was given to a capability for `n` images, checked; () for a model of p(x).

        A conditional model goes through all that could be given where nothing was, unless it is `needed`.

        Raises:
            ValueError: a model of p(x) was given one.
        """
        if condition is not None:
            raise ValueError(f"condition: {type(self).__name__} takes none, it is a model of p(x)")
        return ()

    def at_once(self, key: object, run: Callable[[int], object], in_cache: bool = False) -> int:
        """How many items `run(count)` may take at once: `chunks.at_once`, measured once for each `key`."""
        like = self._like
        key = (key, like.dtype, like.device.type, chunks.CHUNK_BYTES)
        if key not in self._at_once:
            self._at_once[key] = chunks.at_once(run, like.device, in_cache)
        return self._at_once[key]
