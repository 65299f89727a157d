"""`gentrain report`: a page of one run, or of several beside one another."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from PIL import Image

from gentrain.api import Loaded
from gentrain.commands.abilities import needed
from gentrain.commands.asked import Asked
from gentrain.commands.drawing import drawn
from gentrain.commands.figures import figures_of
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.retyped import command_of, differing
from gentrain.commands.several import several
from gentrain.commands.trained import open_model
from gentrain.config import conform
from gentrain.contracts import GenerativeModel
from gentrain.errors import UserError
from gentrain.files import writing
from gentrain.images import save_animation
from gentrain.pages.page import check_size
from gentrain.pages.report import Mark, Picture, RunFacts, comparison_page, run_page, table_csv
from gentrain.schemas import ReportConfig
from gentrain.training.finding import located
from gentrain.training.run import Run
from gentrain.training.tracking import read_metrics

#: Runs that a page compares at most.
MOST = 32
#: What a report makes anew of a model that can: {verb: (heading, what it shows, settings)}.
PICTURES = {
    "reconstruct": ("Reconstructions", "test images above what the model makes of them", ()),
    "interpolate": (
        "Interpolations",
        "each row between two ends in the space of latents",
        ("rows=4", "columns=10"),
    ),
    "complete": (
        "Completions",
        "a test image, the half that is given, and four ways to go on",
        ("images=0,1,2,3", "n=4"),
    ),
}


def run(asked: Asked) -> None:
    """Write the page, and of several runs a table beside it.

    Raises:
        UserError: what is no run, or a page that would be too large.
    """
    config = conform(ReportConfig, asked.config)
    places = runs_of(config.ckpt)
    if len(places) == 1:
        report(places[0], config)
    else:
        compare(places, config)


def runs_of(ckpt: str) -> list[str]:
    """The runs that `ckpt=` names: each by itself, or those in the folder of a sweep.

    Raises:
        UserError: a folder without runs, or more than a page can show.
    """
    places = several("ckpt", ckpt)
    if len(places) == 1 and places[0] != "latest":
        folder = located(places[0])
        inside = sorted(file.parent for file in folder.glob("*/config.yaml")) if folder.is_dir() else []
        of_sweep = inside and not (folder / "config.yaml").exists() and not (folder / "latest").exists()
        if of_sweep and len(inside) > 1:
            places = [str(place) for place in inside if (place / "checkpoints" / "last.pt").exists()]
    if len(places) > MOST:
        raise UserError(f"ckpt names {len(places)} runs; a page compares at most {MOST}")
    return places


def report(place: str, config: DictConfig) -> None:
    """The page of one run."""
    loaded = opened(place, config)
    out = Output(config, loaded, "report.html", (".html",))
    gif = out.path.with_suffix(".gif")
    facts = facts_of(loaded, config)
    if config.animation and len(facts.frames) < 2:
        raise UserError("animation=true: this run has no pictures of samples at several steps")
    if config.pictures:
        facts = with_pictures(facts, loaded, config)
    page = run_page(facts, config.beginning)
    check_size(page, lambda part: smaller(part, config, len(facts.frames)))
    out.text(page)
    print(out.wrote(f"{len(facts.frames)} steps of samples, {len(page) / 1e6:.1f} MB"))
    if config.animation:
        with writing(gif, "out=FILE") as temporary:
            save_animation([Image.open(io.BytesIO(png)) for _, png in facts.frames], temporary, "GIF")
        print(f"wrote   {gif} (the samples over the steps)")
    then = next_command(loaded.model, ckpt_argument(loaded), "sample", "reconstruct", config=config)
    print(f"next    {then}" if facts.figures else f"next    {measuring(loaded, config)}")


def measuring(loaded: Loaded, config: DictConfig) -> str:
    """What to type for figures, where there are none yet."""
    return next_command(loaded.model, ckpt_argument(loaded), "eval", "sample", config=config)


def smaller(part: float, config: DictConfig, frames: int) -> str:
    """What to type for a page of so many times its size."""
    fewer = f"frames={max(2, int(0.8 * part * frames))} shows fewer steps"
    return fewer + (", pictures=false none that are made anew" if config.pictures else "")


def compare(places: Sequence[str], config: DictConfig) -> None:
    """The page of several runs, and the table as CSV."""
    if config.animation:
        raise UserError("animation=true is for one run; give one in ckpt=")
    out = Output(config, None, "report.html", (".html",))
    found: list[RunFacts] = []
    configs: list[DictConfig] = []
    first: Loaded | None = None
    for place in places:
        loaded = opened(place, config)
        first = first or loaded
        facts = replace(facts_of(loaded, config), frames=(), pictures=())
        if issubclass(type(loaded.model), needed("sample")):
            words = f"{config.n} samples"
            more, notes = made(loaded, config, {"sample": ("Samples", words, (f"n={config.n}",))})
            facts = replace(facts, pictures=more, notes=notes)
        found.append(facts)
        configs.append(loaded.config)
    found = told_apart(found, configs)
    table = out.path.with_suffix(".csv")
    page = comparison_page(found, config.beginning, table.name)
    check_size(page, lambda _: f"n={max(1, config.n // 2)} shows fewer samples; or name fewer runs")
    out.text(page)
    table = out.path.with_suffix(".csv")
    with writing(table, "out=FILE") as temporary:
        temporary.write_text(table_csv(found), encoding="utf-8", errors="backslashreplace")
    print(out.wrote(f"{len(found)} runs, {len(page) / 1e6:.1f} MB"))
    print(f"wrote   {table} (the table)")
    assert first is not None
    print(f"next    gentrain report {ckpt_argument(first)}")


def told_apart(found: Sequence[RunFacts], configs: Sequence[DictConfig]) -> list[RunFacts]:
    """The runs with the settings in which they differ, each under a name of its own."""
    settings = differing(configs)
    names = []
    for facts, own in zip(found, settings, strict=True):
        words = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in own.items())
        names.append(words or facts.name)
    seeds = {facts.seed for facts in found}
    if len(set(names)) < len(names) and len(seeds) > 1:
        names = [f"{name}, seed {facts.seed}" for name, facts in zip(names, found, strict=True)]
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if names.count(name) == 1 else f"{name} ({counts[name]})")
    return [
        replace(facts, name=name, settings=own)
        for facts, own, name in zip(found, settings, unique, strict=True)
    ]


# What is known of a run


def opened(place: str, config: DictConfig) -> Loaded:
    """The model of a run.

    Raises:
        UserError: it lies in no run folder.
    """
    loaded = open_model(OmegaConf.merge(config, {"ckpt": place}))  # type: ignore[arg-type]
    if loaded.run is None or not loaded.run.config.is_file():
        raise UserError(f"{loaded.path} lies in no run folder: there are no curves to report; give ckpt=RUN")
    return loaded


def facts_of(loaded: Loaded, config: DictConfig) -> RunFacts:
    """All that the run folder and the checkpoint say."""
    run_, own, model = loaded.run, loaded.config, loaded.model
    assert run_ is not None
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in read_metrics(run_.folder / "metrics.jsonl"):
        for key, value in line.items():
            if key not in ("step", "images", "epoch") and isinstance(value, (int, float)):
                curves.setdefault(key, []).append((line["step"], value))
    marks = {one.figure: Mark(one.value, one.words, one.title, one.sign) for one in model.landmarks()}
    notes = [] if curves else ["No figures were logged before this checkpoint."]
    return RunFacts(
        name=f"{own.names.model} on {own.names.dataset}",
        facts=said(loaded, model),
        command=command_of(own),
        curves=curves,
        marks=marks,
        figures=figures_of(run_.folder, loaded.step),
        frames=frames_of(run_, config.frames),
        pictures=(),
        config=OmegaConf.to_yaml(own),
        seed=int(own.seed),
        notes=notes,
    )


def said(loaded: Loaded, model: GenerativeModel) -> dict[str, str]:
    """What was trained on what, by whom and where; what an older checkpoint does not know is left out."""
    own, state = loaded.config, loaded.state
    there: dict[str, Any] = state.get("environment") or {}
    shape = "x".join(map(str, model.spec.shape))
    seconds = state.get("seconds")
    threads = there.get("threads")
    machine = own.made.machine or there.get("device")
    with_threads = (
        f"{machine}; {threads} thread{'' if threads == 1 else 's'}, {there.get('ranks', 1)} process(es)"
    )
    versions = ", ".join(f"{name} {version}" for name, version in own.made.versions.items())
    facts = {
        "model": f"{own.names.model} ({own.model._target_.rpartition('.')[2]}), "
        f"{sum(p.numel() for p in model.parameters()):,} parameters",
        "data": f"{own.names.dataset}, images {shape} with {model.spec.levels} levels",
        "experiment": own.names.experiment,
        "steps": f"{loaded.step:,} of {own.train.batch_size} images",
        "training took": None if not seconds else minutes(float(seconds)),
        "seed": str(own.seed),
        "machine": None if machine is None else with_threads if threads else str(machine),
        "commit": own.made.commit,
        "versions": versions or None,
        "folder": str(loaded.run.folder) if loaded.run else None,
        "checkpoint": loaded.path.name,
    }
    return {name: text for name, text in facts.items() if text}


def minutes(seconds: float) -> str:
    """In the unit that fits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def frames_of(run_: Run, most: int) -> list[tuple[int, bytes]]:
    """At most so many of the pictures of samples, the first and the last among them."""
    files = sorted((run_.folder / "samples").glob("step_*.png"))
    if len(files) > most:
        files = [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]
    found = []
    for file in files:
        number = file.stem.removeprefix("step_")
        if number.isdigit():
            found.append((int(number), file.read_bytes()))
    return found


# What is made anew


def with_pictures(facts: RunFacts, loaded: Loaded, config: DictConfig) -> RunFacts:
    """The facts with what the model can show; where it cannot for want of data, a note."""
    able = {verb: about for verb, about in PICTURES.items() if isinstance(loaded.model, needed(verb))}
    pictures, notes = made(loaded, config, able)
    return replace(facts, pictures=pictures, notes=[*facts.notes, *notes])


def made(
    loaded: Loaded, config: DictConfig, verbs: dict[str, tuple[str, str, tuple[str, ...]]]
) -> tuple[list[Picture], list[str]]:
    """The pictures of `verbs`, and a line for each that cannot be made."""
    pictures, notes = [], []
    for verb, (title, words, settings) in verbs.items():
        try:
            pictures.append(Picture(title, words, drawn(verb, loaded, config, settings)))
        except UserError as error:
            notes.append(f"{title}: {error}")
    return pictures, notes
