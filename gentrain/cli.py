"""argv -> Hydra -> a command. Imports neither torch nor Hydra before a command runs."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from gentrain import __version__, waiting
from gentrain.arguments import config_dirs, prepared, split_options
from gentrain.commands.verbs import VERBS
from gentrain.errors import GentrainError, UserError, did_you_mean
from gentrain.saying import complain

if TYPE_CHECKING:
    from omegaconf import DictConfig


class _Carried(BaseException):
    """Carries a command's exception past Hydra, which would print a line of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def usage() -> str:
    """The text of `gentrain --help`."""
    width = max(map(len, VERBS))
    lines = ["gentrain trains the classical deep generative models from one command line.", "", "Commands:"]
    lines += [f"  gentrain {verb:{width}}  {about.text}" for verb, about in VERBS.items()]
    lines += ["", "Start with:"]
    lines += [
        "  gentrain train                  # a VAE on handwritten digits, no download, under a minute",
        "  gentrain sample                 # pictures from it",
        "  gentrain eval                   # its test log-likelihood",
        "  gentrain train --help           # every setting, and examples",
        "",
        "Settings are key=value, e.g. model=vae dataset=mnist train.steps=5000 optim.main.lr=3e-4 seed=1",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gentrain <argv>`; returns the exit status.

    0: done; 1: a fault while running; 2: a mistake in what was typed; 130, 143: stopped by a signal.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    say_everything()
    try:
        return dispatch(args)
    except GentrainError as error:
        return failed(str(error), error.exit_status)
    except KeyboardInterrupt:
        return failed("interrupted", 130)
    except BrokenPipeError:  # `gentrain list | head`
        sys.stdout = None
        return 1
    except Exception as error:
        from gentrain.faults import describe

        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return failed(f"{error.filename}: this name is too long; give a shorter one", 2)
        return failed(describe(error, args[0] if args else ""), 1)


def say_everything() -> None:
    """What the terminal's encoding cannot say, such as the name of a file, is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave(status: int) -> NoReturn:
    """End this process; one of several ranks without the interpreter's teardown.

    DistributedDataParallel never lets go of its process group, in torch itself, and a teardown that meets
    gloo's running threads may abort a rank whose work is done ("terminate called without an active
    exception").
    """
    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(status)
    sys.exit(status)


def failed(message: str, status: int) -> int:
    """Say on stderr what happened; the traceback only for who asks for it."""
    if os.environ.get("GENTRAIN_DEBUG") == "1":
        traceback.print_exc()
    complain(f"gentrain: {message}")
    return status


def dispatch(args: list[str]) -> int:
    """Take the verb off `args` and hand the rest to its command through Hydra."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args[0] in ("-V", "--version", "version"):
        print(f"gentrain {__version__}")
        return 0
    if args[0] in ("-sc", "--shell-completion", "--shell_completion"):
        return complete_shell(args)
    verb, *rest = args
    if verb not in VERBS:
        if "=" in verb and not verb.startswith("-"):
            raise UserError(f"expected a command before {verb!r}, e.g.: gentrain train {verb}")
        raise UserError(f"unknown command {verb!r}{did_you_mean(verb, VERBS)}; see: gentrain --help")
    return run_hydra(verb, rest)


def run_hydra(verb: str, rest: list[str]) -> int:
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

    from gentrain.composing import left_alone, trusted
    from gentrain.config import config_dir, path_keys, register_schemas
    from gentrain.explain import explain, refuse_removals
    from gentrain.trust import admit

    register_schemas()
    if "--help" in rest or "-h" in rest:
        print(f"gentrain {verb}: {VERBS[verb].text}\n\nExamples:")
        print("\n".join(f"  {example}" for example in VERBS[verb].examples) + "\n", flush=True)
    options, overrides = split_options(verb, rest)
    refuse_removals(verb, overrides)
    multirun = any(arg in ("-m", "--multirun") for arg in options)
    overrides = [prepared(arg, path_keys(verb), multirun) for arg in overrides]
    sweep = import_module("gentrain.commands.sweep").Sweep() if multirun else None

    def task(config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        # Hydra's own logging is disabled, and the root logger with it.
        logging.getLogger("gentrain").setLevel(logging.WARNING)
        # The compiler warns that it finds CUDA's tools but no device.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        hydra_config = HydraConfig.get()
        # Not resolved: `seed=${x}` is to fail where its key can be named.
        typed = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
        choices = dict(hydra_config.runtime.choices)
        waiting.watch()
        # Before torch, whose initialisation imports it too, and would swallow a Control-C meanwhile.
        import_module("numpy")
        command = import_module(f"gentrain.commands.{verb}")  # torch comes with it: not before this
        try:
            admit(trusted(config), config_dirs(rest))
            if sweep is None:
                command.run(config, typed, choices)
            else:
                sweep.run(command, config, typed, choices)
        except Exception as error:
            raise _Carried(error) from error

    # torch warns on stderr that it looks for unused parameters, which we ask it to do.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    environment = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception instead of printing it and exiting
    argv = sys.argv
    with ExitStack() as stack:
        stack.enter_context(left_alone())
        if multirun:
            # Hydra insists on writing multirun.yaml somewhere; our runs make their own folders.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gentrain-"))
            overrides.append(f"hydra.sweep.dir='{scratch}'")
        sys.argv = ["gentrain", *options, *overrides]
        try:
            hydra_main(config_path=str(config_dir()), config_name=verb, version_base="1.3")(task)()
        except _Carried as carried:
            raise carried.error from carried.error.__cause__
        except Exception as error:  # Hydra composed nothing: whatever it raises, what was typed is wrong
            raise explain(error, verb, [o for o in rest if "=" in o], config_dirs(rest)) from error
        except SystemExit as stop:  # argparse and --help end so
            return int(stop.code or 0)
        finally:
            sys.argv = argv
            if environment is None:
                os.environ.pop("HYDRA_FULL_ERROR", None)
    return sweep.finish() if sweep is not None else 0


def complete_shell(args: list[str]) -> int:
    """`gentrain -sc install=bash|query=bash`: complete the verb ourselves, the rest through Hydra."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    verb = words[1] if len(words) > 1 and words[1] in VERBS else None
    if any(arg.startswith("query=") for arg in args):
        if verb is None or (len(words) == 2 and not line.endswith(" ")):
            start = words[1] if len(words) > 1 else ""
            print(" ".join(v for v in VERBS if v.startswith(start)))
            return 0
        os.environ["COMP_LINE"] = line.replace(f" {verb}", "", 1)
    return run_hydra(verb or "train", args)
