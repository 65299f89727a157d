"""From a run's configuration back to what was typed, and what tells several runs apart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.arguments import quote
from gentrain.composing import composed
from gentrain.explain import leaves_of

#: What is no part of how a model is trained: places, and what the command fills in.
_NO_SETTING = (
    "names.",
    "made.",
    "run_dir",
    "resume",
    "init",
    "dry_run",
    "targets",
    "seeds",
    "beside",
    "dataset.cache",
)
#: What Hydra's parser takes for something else than text.
_NO_TEXT = {"null", "none", "true", "false", "yes", "no", "on", "off", "nan", "inf"}
_NONE = object()
#: Sections whose keys depend on the class that `_target_` names in them.
_FREE = ("optim", "schedule")
#: How often a run is looked at, and where: nothing that tells what was trained.
_WATCHING = {
    *("train.log_every", "train.eval_every", "train.sample_every", "train.checkpoint_every"),
    *("train.sample_count", "train.keep", "train.say_seconds", "device", "threads"),
}


def command_of(config: DictConfig) -> str | None:
    """A `gentrain train` line that gives this configuration; None where a part of it is not known here.

    It need not be the line that was typed: keys that have their defaults are left out.
    """
    names = config.names
    chosen = [f"experiment={names.experiment}"] if names.experiment else []
    chosen = chosen or [f"model={names.model}", f"dataset={names.dataset}"]
    try:
        words = words_of(config, chosen)
    except Exception:  # a model of the user's own, or one that was renamed
        return None
    return " ".join(["gentrain train", *map(shlex.quote, [*chosen, *words])])


def words_of(config: DictConfig, chosen: Sequence[str], dirs: Sequence[str] = ()) -> list[str]:
    """The settings by which `config` differs from what `gentrain train <chosen>` composes, as overrides.

    Args:
        config: of a run; of sections that it has not nothing is said.
        chosen: model, data set or experiment, as overrides.
        dirs: config folders of the user's own.

    Raises:
        Exception: whatever Hydra and OmegaConf raise over what was chosen.
    """
    default: Any = OmegaConf.to_container(composed("train", chosen, dirs), resolve=False)
    own: Any = OmegaConf.to_container(config, resolve=False)
    words = []
    for key in leaves_of(config, hidden=True):
        value = _at(own, key)
        if key.startswith(_NO_SETTING) or value in (_at(default, key), {}):
            continue
        plus = "" if _has(default, key) else "++"
        words.append(f"{plus}{key}={_typed(value)}")
    free = tuple(f"{section}." for section in _FREE if section in config)
    gone = [key for key in leaves_of(OmegaConf.create(default), hidden=True) if key.startswith(free)]
    removed = [_first_missing(own, key) for key in gone if not _has(own, key)]
    return [*words, *(f"~{key}" for key in dict.fromkeys(removed))]


def _first_missing(plain: Any, key: str) -> str:
    """The shortest beginning of a dotted key that plain mappings have not."""
    parts = key.split(".")
    beginnings = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return next(beginning for beginning in beginnings if not _has(plain, beginning))


def differing(configs: Sequence[DictConfig]) -> list[dict[str, str]]:
    """Of each configuration the settings that not all have, but for the seed; the chosen names first."""
    named = [{"model": c.names.model, "dataset": c.names.dataset} for c in configs]
    settings = [{**name, **_settings(config)} for name, config in zip(named, configs, strict=True)]
    keys = [key for key in dict.fromkeys(k for own in settings for k in own) if key not in _WATCHING]
    apart = [
        key for key in keys if key != "seed" and any(s.get(key) != settings[0].get(key) for s in settings)
    ]
    # Of another model all settings are other ones: its name says it.
    for name in ("model", "dataset"):
        if name in apart:
            apart = [key for key in apart if not key.startswith(f"{name}.") and not key.startswith("optim.")]
    return [{key: _shown(own.get(key)) for key in apart if key in own} for own in settings]


def plain_settings(config: DictConfig) -> dict[str, float | str]:
    """{dotted key: number, or text} of what decides how a model is trained, and of its names."""
    names = {"model": str(config.names.model), "dataset": str(config.names.dataset)}
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(resolved, DictConfig)
    values = {key: value for key, value in _settings(resolved).items() if value is not None}
    number = {key: v for key, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {**names, **{key: _shown(value) for key, value in values.items()}, **number}


def _settings(config: DictConfig) -> dict[str, Any]:
    """{dotted key: value, unresolved} of what decides how a model is trained."""
    plain = OmegaConf.to_container(config, resolve=False)
    return {key: _at(plain, key) for key in leaves_of(config) if not key.startswith(_NO_SETTING)}


def _at(plain: Any, key: str, default: Any = None) -> Any:
    """The value of a dotted key in plain mappings; `default` where there is none."""
    node = plain
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node


def _has(plain: Any, key: str) -> bool:
    """Whether plain mappings have this dotted key."""
    return _at(plain, key, _NONE) is not _NONE


def _typed(value: Any) -> str:
    """As Hydra's parser is to read it: text in quotes where it would be taken for something else."""
    if isinstance(value, list):
        return "[" + ",".join(map(_typed, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_typed(key)}: {_typed(one)}" for key, one in value.items()) + "}"
    if not isinstance(value, str) or re.fullmatch(r"\$\{[\w.:,]+\}", value):
        return _shown(value)
    plain = re.fullmatch(r"[A-Za-z_/.][\w./-]*( [\w./-]+)*", value) and value.lower() not in _NO_TEXT
    return value if plain else quote(value)


def _shown(value: Any) -> str:
    """For people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    return str(value)
