"""A picture that another verb makes, for a page."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.arguments import prepared
from gentrain.commands.asked import Asked
from gentrain.composing import composed
from gentrain.config import path_keys


def drawn(verb: str, loaded: Loaded, config: DictConfig, settings: Sequence[str]) -> bytes:
    """The PNG that `gentrain VERB` writes for the checkpoint that is `loaded`; nothing is printed.

    Args:
        verb: one that writes pictures.
        loaded: the model.
        config: of the page: device, threads, seed, ema, trust and where the data lie are taken from it.
        settings: more overrides.

    Raises:
        UserError: the verb refuses.
    """
    with tempfile.TemporaryDirectory(prefix="gentrain-") as folder:
        out = Path(folder) / "picture.png"
        words = [f"ckpt={loaded.path}", f"out={out}", *settings]
        asked = composed(verb, [prepared(word, path_keys(verb), sweep=False) for word in words])
        for key in ("device", "threads", "seed", "ema", "trust"):
            asked[key] = config[key]
        if "titles" in asked:
            asked.titles = True
        if "dataset" in asked:
            asked.dataset = config.dataset
        with contextlib.redirect_stdout(io.StringIO()):
            import_module(f"gentrain.commands.{verb}").run(Asked(asked, settings))
        return out.read_bytes()
