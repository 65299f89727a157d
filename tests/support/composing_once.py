"""Configurations that several tests look at, composed once: composing is what most of such tests take."""

from __future__ import annotations

from functools import cache

from omegaconf import DictConfig, OmegaConf

from gentrain.api import compose_train


@cache
def composed_once(*overrides: str) -> DictConfig:
    """The config of `gentrain train <overrides>`; not to be changed, and it refuses to be."""
    config = compose_train(list(overrides))
    OmegaConf.set_readonly(config, True)
    return config
