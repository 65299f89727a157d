"""The `next` line at the end of every command: what it proposes works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import MODELS, Ended, toy
from torch import nn

from gentrain.commands.trained import next_command
from gentrain.contracts import (
    Completes,
    HasLikelihood,
    ImagesToLatents,
    Invertible,
    LatentsToImages,
    Reconstructs,
    Samples,
)


def able(*capabilities: type, latent_prior: str = "gaussian") -> Any:
    """A model in name alone."""
    made = type("Able", (nn.Module, *capabilities), {"latent_prior": latent_prior})
    made.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    return made()


@pytest.mark.parametrize(
    ("model", "verbs", "expected"),
    [
        (able(Samples), ["sample", "eval"], "sample C"),
        (able(Samples), ["reconstruct", "sample"], "sample C"),
        (able(Samples), ["eval", "sample"], "sample C"),  # it has no likelihood
        (able(HasLikelihood), ["sample", "eval"], "eval C"),
        (able(Reconstructs), ["sample", "encode", "interpolate", "reconstruct"], "reconstruct C"),
        (able(ImagesToLatents), ["sample", "reconstruct"], "reconstruct C"),
        (able(Invertible), ["reconstruct"], "reconstruct C"),
        (able(LatentsToImages), ["encode", "reconstruct", "interpolate"], "interpolate C"),
        (able(ImagesToLatents), ["interpolate"], "interpolate C"),
        (able(ImagesToLatents, latent_prior="none"), ["interpolate"], "interpolate C images=0,1,2,3"),
        (able(LatentsToImages, latent_prior="none"), ["interpolate"], "list"),
        (able(Completes), ["sample", "complete"], "complete C"),
        (able(), ["sample", "reconstruct", "eval"], "list"),
        (able(Samples), [], "list"),
    ],
)
def test_the_first_that_the_model_can_do(model: Any, verbs: list[str], expected: str) -> None:
    assert next_command(model, "C", *verbs) == f"gentrain {expected}"


#: What is proposed after training, and after each command that was proposed.
CHAINS = {
    "ae": ["reconstruct", "interpolate", "encode", "reconstruct"],
    "dae": ["sample", "reconstruct", "interpolate"],
    "cvae": ["sample", "eval", "sample"],
    "toy_gan": ["sample", "interpolate", "sample"],
}


@pytest.mark.parametrize("name", CHAINS)
def test_one_command_leads_to_the_next(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], workplace: Path, name: str
) -> None:
    arguments = MODELS[name] if name in MODELS else toy(name)
    trust = [word for word in arguments if word.startswith("trust")]
    ended = gentrain("train", *arguments, "train.steps=2", "run_dir=my run")
    for verb in CHAINS[name]:
        assert ended.out.splitlines()[-1].split()[:3] == ["next", "gentrain", verb]
        ended = follow(ended, *trust)
        assert ended.status == 0, ended.err
