"""argv -> Hydra -> a command. Imports neither torch nor Hydra before a command runs."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from gentrain import __version__, hydra_entry
from gentrain.commands.verbs import VERBS
from gentrain.errors import GentrainError, UserError, control_c_kept, did_you_mean
from gentrain.saying import complain

if TYPE_CHECKING:
    pass


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
        with control_c_kept():
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
    if args[0:1] == ["help"] and args[1:2] and args[1] in VERBS:  # gentrain help train
        return hydra_entry.run(args[1], ["--help", *args[2:]])
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
    return hydra_entry.run(verb, rest)


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
    return hydra_entry.run(verb or "train", args)
