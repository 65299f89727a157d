"""Composing our YAML files with Hydra, inside a program that may use Hydra for its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gentrain.config import config_dir, config_error, names_in, register_schema


@contextmanager
def left_alone() -> Iterator[None]:
    """Hydra as if nobody had initialised it; afterwards as the caller had it."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    before, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        yield
    finally:  # Hydra puts another instance in place
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = before, config


def composed(verb: str, overrides: Sequence[str], dirs: Sequence[str] = ()) -> DictConfig:
    """The config of `gentrain <verb> <overrides>`, with config folders of the user's own.

    Raises:
        Exception: whatever Hydra and OmegaConf raise; `explain` puts it in one line.
    """
    from hydra import compose, initialize_config_dir

    register_schema(verb)
    search = ",".join(f"'file://{Path(folder).resolve()}'" for folder in dirs)
    with left_alone(), initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(verb, overrides=[*overrides, *([f"hydra.searchpath=[{search}]"] if dirs else [])])


def chosen(
    verb: str, overrides: Sequence[str], dirs: Sequence[str] = ()
) -> tuple[DictConfig, dict[str, str | None]]:
    """As `composed`, and the options of the config groups."""
    from hydra import compose, initialize_config_dir
    from omegaconf import open_dict

    register_schema(verb)
    search = ",".join(f"'file://{Path(folder).resolve()}'" for folder in dirs)
    more = [f"hydra.searchpath=[{search}]"] if dirs else []
    with left_alone(), initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(verb, overrides=[*overrides, *more], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, choices


def trusted(config: DictConfig) -> list[str]:
    """The modules that `trust` names in a config that nobody has checked yet.

    Raises:
        UserError: it holds something else.
    """
    try:
        return names_in("trust", config.trust)
    except OmegaConfBaseException as error:
        raise config_error(error) from error
