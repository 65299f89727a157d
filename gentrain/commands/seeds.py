"""`gentrain reproduce` of an experiment that names several seeds: the run in the middle counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gentrain.errors import UserError
from gentrain.explain import plain_key

#: In result.json: {seed: {metric: value}}, and the folder of the run that counts.
SEEDS, COUNTS = "seeds", "run"


@dataclass(frozen=True)
class OneRun:
    """A run that an experiment consists of.

    Args:
        config: of the experiment, with the seed of this run.
        typed: the overrides, the seed among them.
        folder: of the run.
    """

    config: DictConfig
    typed: Sequence[str]
    folder: Path


def check_seeds(seeds: Sequence[int] | None) -> None:
    """Refuse seeds of which none is in the middle.

    Raises:
        UserError: an even number of them, one that comes twice, or one that no `seed` may be.
    """
    if seeds is None:
        return
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**63]:
        raise UserError(f"seeds: expected each at least 0 and below 2^63, found {wrong[0]}")
    if len(seeds) % 2 == 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"seeds: expected an odd number of different ones, of which one is in the middle, found {seeds}"
        )


def runs_of(config: DictConfig, typed: Sequence[str], folder: Path) -> list[OneRun]:
    """The runs of an experiment: one for each of its `seeds`, in a folder of its own.

    Args:
        config: of the experiment.
        typed: the overrides; with a `seed` among them that one is run, and no other.
        folder: of the experiment.
    """
    if config.seeds is None or any(plain_key(override) == "seed" for override in typed):
        return [OneRun(config, typed, folder)]
    found = []
    for seed in config.seeds:
        own = config.copy()
        own.seed = seed
        found.append(OneRun(own, [*typed, f"seed={seed}"], folder / f"seed_{seed}"))
    return found


def middle(figures: Sequence[Mapping[str, float]]) -> int:
    """Which of an odd number of runs is in the middle, by its first figure: {metric: value} of each."""
    first = next(iter(figures[0]))
    order = sorted(range(len(figures)), key=lambda i: figures[i][first])
    return order[len(order) // 2]


def together(runs: Sequence[OneRun], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What result.json of the experiment holds: that of the run in the middle, and every seed's figures."""
    obtained = [result["obtained"] for result in results]
    counts = middle(obtained)
    seeds = {str(one.config.seed): figures for one, figures in zip(runs, obtained, strict=True)}
    return {**results[counts], SEEDS: seeds, COUNTS: runs[counts].folder.name}


def of_each(result: Mapping[str, Any], metric: str) -> str:
    """A figure of every seed, "0.1210, 0.0530, 0.3100 of seeds 0, 1, 2"."""
    values = ", ".join(f"{figures[metric]:.4g}" for figures in result[SEEDS].values())
    return f"{values} of seeds {', '.join(result[SEEDS])}"
