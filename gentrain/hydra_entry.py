"""A verb and its overrides -> Hydra -> the command. Imports neither torch nor Hydra before it runs."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from gentrain import waiting
from gentrain.arguments import config_dirs, prepared, split_options
from gentrain.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


class _Carried(BaseException):
    """Carries a command's exception past Hydra, which would print a line of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _composed_once() -> Iterator[None]:
    """Within, Hydra does not compose all of it once before, to read `hydra.mode`: `-m` alone says that."""
    from hydra._internal.hydra import Hydra

    before = Hydra.get_mode
    setattr(Hydra, "get_mode", lambda *_, **__: None)  # noqa: B010
    try:
        yield
    finally:
        setattr(Hydra, "get_mode", before)  # noqa: B010


def _blamed(error: Exception, taken: list[str], typed: list[str]) -> Exception:
    """The error; of a setting that was taken from the run of `init` it says so."""
    if not taken or not isinstance(error, UserError):
        return error
    found: Exception = import_module("gentrain.commands.init_from").blamed(error, taken, typed)
    return found


def run(verb: str, rest: list[str]) -> int:
    """Compose `verb`'s config from `rest` with Hydra and run the command.

    Raises:
        UserError: what was typed does not fit, or there is no current folder.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder was deleted; go to another one: cd FOLDER") from error
    from hydra import main as hydra_main
    from omegaconf import OmegaConf

    from gentrain.commands.asked import Asked
    from gentrain.composing import left_alone, trusted
    from gentrain.config import config_dir, path_keys, register_schema
    from gentrain.explain import explain, plain_key, refuse_removals
    from gentrain.trust import admit

    register_schema(verb)
    options, overrides = split_options(verb, rest)
    refuse_removals(verb, overrides)
    multirun = any(arg in ("-m", "--multirun") for arg in options)
    paths = path_keys(verb)
    overrides = [prepared(arg, paths, multirun) for arg in overrides]
    taken: list[str] = []
    if {"--help", "-h"} & set(options):
        usage = import_module("gentrain.commands.usage").usage
        try:
            print(usage(verb, overrides, config_dirs(rest), "--resolve" in options))
        except Exception as error:  # as below
            raise explain(error, verb, [o for o in rest if "=" in o], config_dirs(rest)) from error
        return 0
    if "init" in paths and any(word.startswith("init=") for word in overrides):
        waiting.watch()
        import_module("numpy")  # as below
        taken = import_module("gentrain.commands.init_from").settings(overrides, config_dirs(rest))
    before = [prepared(word, paths, False) for word in taken]
    keys_before = {plain_key(word) for word in before}  # of which none was given another value
    sweep = import_module("gentrain.commands.sweep").Sweep() if multirun else None

    def task(config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        # Hydra's own logging is disabled, and the root logger with it.
        logging.getLogger("gentrain").setLevel(logging.WARNING)
        # The compiler warns that it finds CUDA's tools but no device.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        hydra_config = HydraConfig.get()
        # Not resolved: `seed=${x}` is to fail where its key can be named.
        words = [str(o) for o in OmegaConf.to_container(hydra_config.overrides.task, resolve=False) or []]
        typed = [word for word in words if plain_key(word) not in keys_before]
        asked = Asked(config, typed, dict(hydra_config.runtime.choices), taken)
        waiting.watch()
        # Before torch, whose initialisation imports it too, and would swallow a Control-C meanwhile.
        import_module("numpy")
        command = import_module(f"gentrain.commands.{verb}")  # torch comes with it: not before this
        try:
            admit(trusted(config), config_dirs(rest))
            if sweep is None:
                command.run(asked)
            else:
                sweep.run(command, asked)
        except Exception as error:
            raise _Carried(error) from error

    # torch warns on stderr that it looks for unused parameters, which we ask it to do.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    environment = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception instead of printing it and exiting
    argv = sys.argv
    with ExitStack() as stack:
        stack.enter_context(left_alone())
        stack.enter_context(_composed_once())
        if multirun:
            # Hydra insists on writing multirun.yaml somewhere; our runs make their own folders.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gentrain-"))
            overrides.append(f"hydra.sweep.dir='{scratch}'")
        sys.argv = ["gentrain", *options, *before, *overrides]
        try:
            hydra_main(config_path=str(config_dir()), config_name=verb, version_base="1.3")(task)()
        except _Carried as carried:
            raise _blamed(carried.error, taken, overrides) from carried.error.__cause__
        except Exception as error:  # Hydra composed nothing: whatever it raises, what was typed is wrong
            wrong = explain(error, verb, [o for o in rest if "=" in o], config_dirs(rest))
            raise _blamed(wrong, taken, overrides) from error
        except SystemExit as stop:  # argparse and --help end so
            return int(stop.code or 0)
        finally:
            sys.argv = argv
            if environment is None:
                os.environ.pop("HYDRA_FULL_ERROR", None)
    return sweep.finish() if sweep is not None else 0
