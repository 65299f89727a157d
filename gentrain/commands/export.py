"""`gentrain export`: a trained model as a folder to share, with its weights, what they are, and a card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gentrain import __version__, exported
from gentrain.api import Loaded
from gentrain.commands import card, to_onnx
from gentrain.commands.asked import Asked
from gentrain.commands.next import next_command, unsaid
from gentrain.commands.trained import open_model
from gentrain.composing import composed
from gentrain.config import conform
from gentrain.contracts import GenerativeModel, LatentsToImages, Samples
from gentrain.errors import UserError
from gentrain.files import expanded, write_text
from gentrain.images import draw_png
from gentrain.schemas import ExportConfig
from gentrain.showing import sheet
from gentrain.training import provenance
from gentrain.trust import again

#: Sections of a run's configuration that say what it was, not where.
RUN = ("names", "dataset", "optim", "schedule", "train", "made", "seed", "precision")


def run(asked: Asked) -> None:
    """Write the folder, whole or not at all.

    Raises:
        UserError: no folder was named, something lies there, or the model cannot be exported so.
        Fault: a full disk.
    """
    config = asked.config
    config = conform(ExportConfig, config)
    if config.out is None:
        raise UserError("out is missing: name the folder to write, e.g. gentrain export out=my-model")
    folder = expanded(config.out)
    exported.check_place(folder)
    loaded = open_model(config)
    files = make(loaded, folder, config)
    print(f"wrote   {folder} ({files}), step {loaded.step}")
    place = shlex.quote(f"ckpt={folder}")
    if config.format == "safetensors":
        kept: Any = OmegaConf.create(exported.read(folder)["config"])
        where, verbs = unsaid(kept.dataset, None, list(config.trust)), ("sample", "eval", "reconstruct")
        print(f"next    {next_command(loaded.model, again() + place, *verbs, unsaid=where)}")
    else:
        print("next    gentrain list")


def make(
    loaded: Loaded,
    folder: Path,
    config: DictConfig,
    result: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> str:
    """Write the export of `loaded`; what it holds, in words.

    Args:
        loaded: the model.
        folder: new, or empty.
        config: of `gentrain export`.
        result: of a reproduction that these weights gave: its figures go on the card, and it lies beside.
        replace: what lies in `folder` goes.

    Raises:
        UserError, Fault: as `run` says.
    """
    model = loaded.model
    # What the checkpoint lacks, itself an export, this one lacks too.
    lacking = tuple(name for name, net in model.named_children() if isinstance(net, exported.Absent))
    if config.whole and lacking:
        raise UserError(
            f"whole=true: {loaded.path} has no {', '.join(lacking)}, being an export itself; leave whole "
            "out, or export the run"
        )
    without = lacking if config.whole else tuple(dict.fromkeys([*lacking, *model.training_only]))
    graph = None
    if config.format == "onnx":
        content, graph = to_onnx.exported(model)
        name, without, dtype = exported.GRAPH, (), "float32"
    else:
        name, dtype = exported.WEIGHTS, config.dtype
        content = exported.packed(model, dtype, without)
    state = loaded.state
    averaged = bool(state.get("averaged") or (config.ema and state["ema"]))
    file = {**exported.about(content, dtype, without), "parameters": count(model, without)}
    about = described(loaded, file, averaged)
    drawn = picture(model, loaded.config.train.sample_count if config.n is None else config.n)
    shown = exported.PICTURE if drawn is not None else None
    text = card.written(model, about, shown, config.license, result, graph)
    with exported.making(folder, replace) as temporary:
        exported.write(temporary, about, text, name, content)
        if result is not None:
            kept = {**result, "weights": {"kept": True, **about["weights"]}}
            write_text(temporary / exported.RESULT, json.dumps(kept, indent=2) + "\n")
        if drawn is not None:
            draw_png(drawn, temporary / exported.PICTURE)
    left = f", without {', '.join(without)}" if without else ""
    return f"{len(content) / 1e6:.2f} MB of {dtype}{left}"


def count(model: GenerativeModel, without: Sequence[str]) -> int:
    """Numbers in the weights, but those of the submodules in `without`."""
    weights = model.state_dict().items()
    return sum(value.numel() for name, value in weights if not exported.within(name, without))


def described(loaded: Loaded, weights: Mapping[str, Any], averaged: bool) -> dict[str, Any]:
    """What config.json says: what the model is and what the run was, not where it lay."""
    plain: Any = OmegaConf.to_container(loaded.config, resolve=False)
    run = {key: plain[key] for key in RUN if key in plain}
    run["dataset"] = {key: value for key, value in run["dataset"].items() if key != "cache"}
    for place, kind in (("root", "dataset"), ("background", "experiment")):
        if run["dataset"].get(place) is not None:
            run["dataset"].pop(place)
            if (there := usual_place(loaded, place, kind)) is not None:
                run["dataset"][place] = there
    record = loaded.state.get("data")
    model: Any = OmegaConf.to_container(loaded.config.model, resolve=True)
    return {
        "format": exported.FORMAT,
        "gentrain": __version__,
        "model": model,
        "spec": loaded.model.spec.to_dict(),
        "step": loaded.step,
        "averaged": averaged,
        "weights": dict(weights),
        "run": run,
        "data": record and {"digest": record["digest"], "counts": dict(record["counts"])},
        "exported": {"date": provenance.today(), "versions": provenance.versions()},
    }


def usual_place(loaded: Loaded, place: str, kind: str) -> str | None:
    """`dataset.<place>` on any machine, as our YAML of the run's dataset or experiment, `kind`, says it.

    None where only its user knows.
    """
    try:
        usual = composed("train", [f"{kind}={loaded.config.names[kind]}"]).dataset
    except Exception:  # a data set of the user's own: Hydra has many words for that
        return None
    plain: Any = OmegaConf.to_container(usual, resolve=False)
    return plain.get(place) if plain.get("_target_") == loaded.config.dataset.get("_target_") else None


def picture(model: GenerativeModel, n: int) -> Tensor | None:
    """A grid of `n` images, uint8 [1 or 3, height, width]; None of a model that draws none without data."""
    with torch.no_grad():
        if isinstance(model, Samples):
            images = model.sample(n)
        elif isinstance(model, LatentsToImages) and model.latent_prior != "none":
            images = model.latents_to_images(model.prior_draws(n))
        else:
            return None
    return sheet(images, model.spec)
