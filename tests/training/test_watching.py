"""Validation figures of a model that has a loss alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec, GenerativeModel, HasLikelihood, Turn
from gentrain.training.distributed import World
from gentrain.training.watching import evaluate, mean_loss

SPEC = DataSpec(shape=(1, 2, 2))


class Brightness(GenerativeModel):
    """Its loss is the mean of the images' first pixels."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.weight = nn.Parameter(torch.ones(1))

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return (batch.x[:, 0, 0, 0].float() * self.weight).mean(), {}


class Other(World):
    """Another rank beside this one, whose sums are known."""

    def __init__(self, *sums: float) -> None:
        super().__init__()
        object.__setattr__(self, "sums", sums)

    def sum(self, tensor: Tensor) -> Tensor:
        """On the CPU, where their numbers can be read: a meta tensor has none."""
        self.__dict__["device"] = tensor.device.type
        own = torch.zeros(2) if tensor.is_meta else tensor
        return own + torch.tensor(self.__dict__["sums"], dtype=torch.float64)


def batches(*sizes: int, device: str = "cpu") -> Iterator[Batch]:
    for size in sizes:
        x = torch.full((size, *SPEC.shape), size, dtype=torch.uint8)
        yield Batch(x.to(device))


def test_each_image_has_equal_weight() -> None:
    assert mean_loss(Brightness(), batches(3, 1), 0, World()) == (3 * 3 + 1 * 1) / 4


def test_a_rank_may_have_no_images() -> None:
    assert mean_loss(Brightness(), batches(), 0, Other(6.0, 2.0)) == 3.0


def test_sums_stay_on_the_models_device() -> None:
    """A device on which nothing can be mixed with the CPU; it stands in for a GPU."""
    world = Other(6.0, 2.0)
    assert mean_loss(Brightness().to("meta"), batches(3, 1, device="meta"), 0, world) == 3.0
    assert world.__dict__["device"] == "meta"


class Players(Brightness):
    """Two of them."""

    def turns(self) -> list[Turn]:
        return [Turn(name, [self], self.loss) for name in ("one", "other")]


class Measured(Players, HasLikelihood):
    """Players with a likelihood."""

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        return -x[:, 0, 0, 0].float()


def test_what_best_means() -> None:
    assert Brightness().merit == "loss"
    assert Players().merit is None
    assert Measured().merit == "likelihood"
    assert evaluate(Brightness(), batches(3, 1), 0, World()) == ({"eval/loss": 2.5}, 2.5, "")
    values, figure, kind = evaluate(Measured(), batches(3, 1), 0, World())
    assert (figure, kind) == (2.5, "exact")
    assert values["eval/nats"] == 2.5


def test_a_model_may_say_what_best_means() -> None:
    class Chosen(Measured):
        merit = "loss"

    class Wrong(Players):
        merit = "likelihood"

    assert evaluate(Chosen(), batches(2), 0, World())[0] == {"eval/loss": 2.0}
    with pytest.raises(TypeError, match=r"Wrong\.merit is 'likelihood', and it declares no HasLikelihood"):
        evaluate(Wrong(), batches(2), 0, World())
