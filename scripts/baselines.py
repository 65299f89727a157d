"""What bars of our own have to beat: `python scripts/baselines.py RUN/result.json ...`.

A bar without a published figure is held against a baseline of three seeds: the same experiment with something
left out, for instance all of the training but one update:

    gentrain reproduce experiment=cgan_mnist seeds=[0,1,2] train.steps=1 run_dir=outputs/baselines/cgan_mnist

The figures of its seeds are kept in results/baselines.json, without weights, and the table of baselines in
docs/reproductions.md is made anew from all that stand there; without arguments only the table. A model beats
its baseline where it lies past its mean by two standard deviations of the seeds.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accept import PAGES, RESULTS, between, markdown, recipe, run

from gentrain import exported
from gentrain.commands.seeds import SEEDS
from gentrain.explain import plain_key
from gentrain.files import replacing, write_text

KEPT = RESULTS / "baselines.json"
PAGE = PAGES[0]
BEGIN, END = "<!-- baselines: made by scripts/baselines.py -->", "<!-- end of baselines -->"
HEAD = ["experiment", "figure", "wanted", "baseline", "its figures", "two deviations past it", "ours", "on"]
#: How many seeds a baseline has at least.
FEWEST = 3


def problem(result: dict[str, Any]) -> str | None:
    """Why a result is no baseline of its experiment, or None."""
    if len(result.get(SEEDS, {})) < FEWEST:
        return f"has fewer than {FEWEST} seeds; reproduce it with seeds=[0,1,2]"
    if not left_out(result):
        return "is the experiment itself; leave something out, e.g. train.steps=1"
    targets = {target.metric for target in recipe(result["experiment"]).targets}
    for figures in result[SEEDS].values():
        if figures.keys() != targets:
            return f"measured {', '.join(figures)}, the targets are {', '.join(sorted(targets))}"
    if result["commit"].endswith("-dirty"):
        return "the code differed from its commit; commit, and measure again"
    return None


def left_out(result: dict[str, Any]) -> list[str]:
    """The overrides that make a baseline of the experiment."""
    return [override for override in result["changed"] if plain_key(override) != "seeds"]


def kept() -> dict[str, list[dict[str, Any]]]:
    """{experiment: its baselines}."""
    if not KEPT.is_file():
        return {}
    found: dict[str, list[dict[str, Any]]] = json.loads(KEPT.read_text(encoding="utf-8"))
    return found


def keep(file: Path) -> str | None:
    """Keep the figures of a baseline, in the place of those of the same one, or say why not."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        if reason := problem(result):
            return reason
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    except (AttributeError, KeyError, TypeError):
        return "is no result"
    name, changed = result["experiment"], left_out(result)
    new = {"with": changed, SEEDS: result[SEEDS]}
    new |= {key: result[key] for key in ("date", "hardware", "commit", "command")}
    every = kept()
    every[name] = [old for old in every.get(name, []) if old["with"] != changed] + [new]
    with replacing(KEPT) as temporary:
        write_text(temporary, json.dumps(dict(sorted(every.items())), indent=2) + "\n")
    return None


def past(values: Sequence[float], at_least: bool) -> float:
    """Two standard deviations past the mean of a baseline's seeds, on the side of what is better."""
    return statistics.mean(values) + (2 if at_least else -2) * statistics.stdev(values)


def rows() -> list[list[str]]:
    """The table's rows: every figure of every baseline."""
    found = []
    for name, baselines in kept().items():
        file = RESULTS / name / exported.RESULT
        ours = json.loads(file.read_text(encoding="utf-8"))["obtained"] if file.is_file() else {}
        for baseline in baselines:
            for target in recipe(name).targets:
                at_least = target.at_least is not None
                values = [figures[target.metric] for figures in baseline[SEEDS].values()]
                least = past(values, at_least)
                found.append(
                    [
                        f"`{name}`",
                        target.metric.partition(".")[2].replace("_", " "),
                        f"at least {target.at_least:g}" if at_least else f"at most {target.at_most:g}",
                        " ".join(f"`{override}`" for override in baseline["with"]),
                        f"{', '.join(f'{v:.4g}' for v in values)} of seeds {', '.join(baseline[SEEDS])}",
                        f"{'at least' if at_least else 'at most'} {least:.4g}",
                        held(ours.get(target.metric), least, at_least),
                        f"{baseline['hardware']}, {baseline['date']}",
                    ]
                )
    return found


def held(obtained: float | None, least: float, at_least: bool) -> str:
    """What the model itself reached, and whether that beats its baseline."""
    if obtained is None:
        return "not yet run"
    beats = obtained > least if at_least else obtained < least
    return f"{obtained:.4g}" if beats else f"{obtained:.4g}: not beaten"


def renewed(text: str) -> str:
    """A page with the table of now between its marks."""
    return between(text, BEGIN, END, markdown(HEAD, rows()))


if __name__ == "__main__":
    sys.exit(run(keep, lambda: PAGE, renewed))
