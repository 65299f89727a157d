"""`gentrain reproduce`: train an experiment, or go on with it, measure it, and say how it compares.

An experiment's YAML holds the recipe and its `targets`. The run lies in outputs/reproduce/<experiment>; a
call that was interrupted is taken up where it ended. `result.json` in the run folder says what was reached,
and with what. An experiment with `seeds` is a run of each, in folders of their own; the one in the middle
counts. One with `beside` has a second run, in a folder of its own, for figures that are of two.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gentrain.api import Loaded
from gentrain.building import with_former
from gentrain.commands import resuming, train
from gentrain.commands.asked import Asked
from gentrain.commands.eval import measure
from gentrain.commands.length import follow
from gentrain.commands.measures import METRICS
from gentrain.commands.measures.beside import another
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.second_run import changes_of, check_second, folder_of, second_run
from gentrain.commands.seeds import check_seeds, middle, of_each, runs_of, together
from gentrain.commands.trained import device_of, open_model
from gentrain.config import conform, options
from gentrain.contracts import GenerativeModel
from gentrain.data.source import Source
from gentrain.errors import Fault, UserError, control_c_kept, did_you_mean
from gentrain.explain import plain_key
from gentrain.files import expanded, read_text, write_text, writing
from gentrain.reading import read_config
from gentrain.schemas import EvalConfig, TrainConfig
from gentrain.training import distributed, provenance
from gentrain.training import run as runs
from gentrain.training.stopping import Stopped

#: Overrides that say where and with what, not how: they leave the recipe what it is.
PLACES = (
    *("experiment", "device", "threads", "run_dir", "trust"),
    *("dataset.root", "dataset.cache", "dataset.license"),
)
#: Sections of the configuration that are the recipe.
RECIPE = ("model", "dataset", "optim", "schedule", "train", "seed", "precision")


def run(asked: Asked) -> None:
    """Train, measure, compare, write result.json.

    Raises:
        UserError: no experiment, one without targets, or a folder that another recipe trained.
        Fault: what went wrong while training, a full disk, or a figure that is worse than its target.
        Stopped: a signal asked for the end; the same command goes on.
    """
    if distributed.launched_size() > 1:
        raise UserError("gentrain reproduce runs in one process; start it without torchrun")
    experiment = asked.choices.get("experiment")
    if experiment is None:
        raise UserError(f"experiment is missing; one of: {', '.join(options('experiment'))}")
    config, typed = conform(TrainConfig, asked.config), asked.typed
    for key in ("resume", "init"):
        if config[key] is not None:
            raise UserError(
                f"{key}: gentrain reproduce goes on by itself; for a run of your own: gentrain train"
            )
    check_targets(config, experiment)
    check_seeds(config.seeds)
    folder = expanded(config.run_dir or runs.OUTPUTS / "reproduce" / runs.safe_name(experiment))
    again = command(experiment, typed)
    runs_of_it = runs_of(config, typed, folder)
    found = []
    try:
        with control_c_kept():
            for one in runs_of_it:
                second = second_run(one.config)
                results = {folder, one.folder}
                trained(replace(asked, config=one.config, typed=one.typed), one.folder, results)
                if config.dry_run:
                    return
                if second is not None:
                    print(f"beside  with {shlex.join(changes_of(config))}")
                    trained(replace(asked, config=second, typed=one.typed), folder_of(one.folder), results)
                found.append(compared(one.config, typed, experiment, one.folder))
                write_result(one.folder, found[-1][1])
    except Stopped as stopped:  # while training: saved
        where = str(stopped).partition(";")[0]
        raise Stopped(f"{where}; go on with: {again}", stopped.signum) from stopped
    except KeyboardInterrupt:  # while starting or measuring, in which there is nothing to save
        raise Stopped(f"interrupted; go on with: {again}", signal.SIGINT) from None
    loaded, result = found[middle([own["obtained"] for _, own in found])]
    if len(found) > 1:
        result = together(runs_of_it, [own for _, own in found])
        write_result(folder, result)
        print()
        for metric in result["obtained"]:
            print(f"seeds   {metric}: {of_each(result, metric)}")
    if result["changed"]:
        print(f"note    not the recipe of {experiment}, but with {shlex.join(result['changed'])}")
    print(f"\n{table(result)}\nwrote   {folder / 'result.json'}")
    print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'sample', 'reconstruct')}", flush=True)
    if worse := [name for name, verdict in result["verdict"].items() if verdict == "worse"]:
        raise Fault(f"{experiment}: {', '.join(worse)} is worse than its target allows")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """result.json of a run, or of several seeds; whole or not at all.

    Raises:
        Fault: the disk is full, or failed.
    """
    with writing(folder / "result.json") as temporary:
        write_text(temporary, json.dumps(result, indent=2) + "\n")


def command(experiment: str, typed: Sequence[str]) -> str:
    """What to type for this experiment with these overrides; with the user's own folder of configs."""
    sources = HydraConfig.get().runtime.config_sources
    own = [word for s in sources if s.provider == "command-line" for word in ("--config-dir", s.path)]
    overrides = [override for override in typed if plain_key(override) != "experiment"]
    return shlex.join(["gentrain", "reproduce", *own, f"experiment={experiment}", *overrides])


def check_targets(config: DictConfig, experiment: str) -> None:
    """Refuse targets that cannot be measured, before anything is trained.

    Raises:
        UserError: none, an unknown metric, a missing source, not exactly one of at_most and at_least, or
            one of two runs where there is no second.
    """
    if not config.targets:
        raise UserError(
            f"experiment={experiment} has no targets to hold a run against; train it: "
            f"gentrain train experiment={experiment}"
        )
    for number, target in enumerate(config.targets):
        where = f"targets[{number}]"
        for key in ("metric", "source"):
            if OmegaConf.is_missing(target, key):
                raise UserError(f"{where}.{key} is missing")
        name, _, figure = target.metric.partition(".")
        if name not in METRICS or not figure:
            raise UserError(
                f"{where}.metric: expected a metric and a figure, e.g. likelihood.nats, "
                f"found {target.metric!r}{did_you_mean(name, METRICS)}"
            )
        if (target.at_most is None) == (target.at_least is None):
            raise UserError(f"{where}: expected one of at_most and at_least")
    check_second(config)


# Training


def trained(asked: Asked, folder: Path, results: Collection[Path]) -> None:
    """See that `folder` holds a complete run of the recipe.

    Args:
        asked: the command, with this run's settings.
        folder: of the run.
        results: folders whose result.json was measured on it, which a run that moves removes.

    Raises:
        UserError: it holds a run of another recipe.
    """
    config, typed = asked.config, asked.typed
    settings = folder / "config.yaml"
    # One that is empty, as a power cut leaves it, says of no run what it is; training begins anew there.
    if settings.is_file() and settings.stat().st_size:
        check_recipe(config, folder)
        config.resume, config.run_dir = str(folder), None
        # A run that was asked for fewer steps is not complete here.
        length = "train.steps" if config.train.epochs is None else "train.epochs"
        changeable = [o for o in typed if plain_key(o) in resuming.CHANGEABLE and plain_key(o) != length]
        typed = [f"resume={folder}", f"{length}={OmegaConf.select(config, length)}", *changeable]
    else:
        config.run_dir = str(folder)
    before = changed_at(folder)
    try:
        train.run(replace(asked, typed=typed))
    except resuming.Complete:
        print(f"trained {folder} is complete")
    finally:
        if changed_at(folder) != before:  # what was measured was another state of the run
            for place in results:
                (place / "result.json").unlink(missing_ok=True)


def changed_at(folder: Path) -> int | None:
    """When the run's last checkpoint was written, in nanoseconds; None before the first."""
    last = runs.Run(folder).last
    return last.stat().st_mtime_ns if last.exists() else None


def check_recipe(config: DictConfig, folder: Path) -> None:
    """Refuse to go on in `folder` with another recipe than it was begun with.

    Raises:
        UserError: the first key that differs, in both.
    """
    before = read_config(read_text(folder / "config.yaml"), folder / "config.yaml")
    follow(before, before.train.steps)
    before.train.steps = config.train.steps  # may change, and lengths with it
    plain: list[Any] = [OmegaConf.to_container(c, resolve=True) for c in (before, config)]
    for one in plain:  # a setting that came later is no other recipe, where it has its former value
        for section, base in (("model", GenerativeModel), ("dataset", Source)):
            one[section] = with_former(one[section], base, section, config.trust)
    for section in RECIPE:
        old, new = (dict(leaves(one[section], section)) for one in plain)
        for key in [*new, *old]:
            if old.get(key) != new.get(key) and key not in resuming.CHANGEABLE and key not in PLACES:
                raise UserError(
                    f"{folder} was begun with {key}={old.get(key)}, now it is {new.get(key)}; remove the "
                    "folder, or choose another with run_dir="
                )


def leaves(node: Any, prefix: str) -> list[tuple[str, Any]]:
    """(dotted key, value) of every leaf of plain mappings; lists are leaves."""
    if not isinstance(node, Mapping):
        return [(prefix, node)]
    return [leaf for key, value in node.items() for leaf in leaves(value, f"{prefix}.{key}")]


# Measuring


def compared(
    config: DictConfig, typed: Sequence[str], experiment: str, folder: Path
) -> tuple[Loaded, dict[str, Any]]:
    """Measure every target of a complete run: its model, and what result.json holds.

    Raises:
        UserError: a figure that the metric does not have, or missing data.
    """
    steps = config.train.steps if config.train.epochs is None else None
    loaded, by_metric = measured(config, experiment, folder, folder_of(folder), steps)
    device = device_of(loaded)
    return loaded, {
        "experiment": experiment,
        **by_target(by_metric),
        **({"beside": changes_of(config)} if config.beside else {}),
        "checkpoint": runs.Run(folder).step_file(loaded.step).name,
        "minutes": round(loaded.state["seconds"] / 60, 1),
        "steps": loaded.step,
        "date": provenance.today(),
        "hardware": provenance.hardware(device),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "command": command(experiment, changes(typed)),
        "changed": changes(typed),
    }


def by_target(by_metric: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{"obtained": {metric: value}, ...} of {metric: {"obtained": value, ...}}."""
    keys = ("published", "wanted", "obtained", "stderr", "tolerance", "verdict", "estimator", "source")
    return {key: {metric: values[key] for metric, values in by_metric.items()} for key in keys}


def measured(
    config: DictConfig, experiment: str, place: Path, beside: Path, steps: int | None = None
) -> tuple[Loaded, dict[str, dict[str, Any]]]:
    """Measure every target of `config` on the checkpoint, the run or the export at `place`.

    Args:
        config: of the experiment, with `targets` and where the data lie.
        experiment: its name.
        place: the model.
        beside: the second run, where the experiment has one.
        steps: for how many it must have been trained; None: any.

    Returns:
        The model, and the `entry` of each metric.

    Raises:
        UserError: another number of steps, a figure that the metric does not have, or missing data.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    by_metric: dict[str, dict[str, Any]] = {}
    loaded: Loaded | None = None
    for target in config.targets:
        name, _, figure = target.metric.partition(".")
        settings = {
            "ckpt": str(place),
            "device": config.device,
            "threads": config.threads,
            "trust": list(config.trust),
            "dataset": {key: config.dataset.get(key) for key in ("root", "background", "cache")},
            "split": target.split,
            "samples": target.samples,
            **({"beside": str(beside)} if config.beside and METRICS[name].beside else {}),
            **{key: target[key] for key in ("n", "features") if target[key] is not None},
        }
        asked = conform(EvalConfig, OmegaConf.create(settings))
        loaded = loaded or open_model(asked)
        if steps not in (None, loaded.step):
            raise UserError(
                f"{place} was trained for {loaded.step} steps, train.steps is {steps}; remove the folder, or "
                "choose another with run_dir="
            )
        key = (name, target.split, target.samples, target.n, target.features)
        if key not in found:
            if lack := METRICS[name].lack(loaded.model):
                raise UserError(f"experiment={experiment}: {config.names.model} {lack}")
            loaded.beside = another(loaded, asked, [METRICS[name]])
            found[key] = measure(name, loaded, asked)
        figures = found[key]
        if not isinstance(figures.get(figure), (int, float)):
            numbers = [k for k, v in figures.items() if isinstance(v, float)]
            raise UserError(
                f"{target.metric}: {name} has no figure {figure!r}{did_you_mean(figure, numbers)}"
            )
        by_metric[target.metric] = entry(target, float(figures[figure]), figures, figure)
    assert loaded is not None
    return loaded, by_metric


def changes(typed: Sequence[str]) -> list[str]:
    """The overrides that make the recipe another one."""
    return [override for override in typed if plain_key(override) not in PLACES]


def entry(target: DictConfig, obtained: float, figures: Mapping[str, Any], figure: str) -> dict[str, Any]:
    """One target beside what was obtained."""
    wanted, sign = (target.at_most, 1) if target.at_most is not None else (target.at_least, -1)
    excess = sign * (obtained - wanted)  # how much worse
    beyond = None if target.published is None else sign * (obtained - target.published)
    return {
        "published": target.published,
        "wanted": f"{'at most' if sign > 0 else 'at least'} {wanted:g}",
        "obtained": obtained,
        "stderr": figures.get(f"{figure}_stderr"),
        "tolerance": target.tolerance,
        "verdict": verdict(excess, beyond, target.tolerance),
        "estimator": estimator(target.split, figures),
        "source": target.source,
    }


def estimator(split: str, figures: Mapping[str, Any]) -> str:
    """What a figure is of: "IWAE-5000, mnist test, 10,000 images, 2 levels, binarize=dynamic"."""
    if "estimator" in figures:  # of what is no split of the data
        return str(figures["estimator"])
    parts = [figures.get("kind"), " ".join(filter(None, [figures.get("dataset"), split]))]
    if images := figures.get("images"):
        parts.append(f"{images:,} {figures.get('each', 'image')}s")
    return ", ".join(filter(None, [*parts, figures.get("values")]))


def verdict(excess: float, beyond: float | None, tolerance: float) -> str:
    """What to call a figure.

    Args:
        excess: by how much it is worse than what is wanted (better, where negative).
        beyond: the same of the published figure, which may be more than is wanted; None: there is none.
        tolerance: how much worse is allowed.

    Returns:
        worse; reached, where what is wanted is not what was published, or nothing was; reproduced; better,
        where a published figure is beaten by more than the tolerance: look again before you believe it.
    """
    if not math.isfinite(excess) or excess > tolerance:
        return "worse"
    if beyond is None or beyond > tolerance:
        return "reached"
    return "better" if beyond < -tolerance else "reproduced"


def table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: one line for each target."""
    rows = [("metric", "published", "wanted", "obtained", "tolerance", "minutes", "verdict")]
    for metric, obtained in result["obtained"].items():
        error = result["stderr"][metric]
        published = result["published"][metric]
        rows.append(
            (
                metric,
                "none" if published is None else f"{published:g}",
                result["wanted"][metric],
                f"{obtained:.4f}" + (f" +- {error:.4f}" if error is not None else ""),
                f"{result['tolerance'][metric]:g}",
                f"{result['minutes']}",
                result["verdict"][metric] + (": look again" if result["verdict"][metric] == "better" else ""),
            )
        )
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)).rstrip() for row in rows
    )
