"""What the machine did to a run, in one line."""

from __future__ import annotations

import errno
import os
import textwrap
from collections.abc import Sequence

#: What takes less memory, for each verb.
LESS = {
    "train": "lower train.batch_size, raise train.accumulate to split each batch into more micro-batches, or "
    "make the model smaller",
    "sample": "lower n",
    "eval": "lower batch_size, or samples where the likelihood is a bound",
    "reconstruct": "name fewer images",
    "interpolate": "lower columns and rows, or name fewer images",
    "arithmetic": "lower n, per_label or batch_size",
    "complete": "lower n, or name fewer images",
    "translate": "name fewer images",
    "cross": "lower children",
    "quiz": "lower n",
    "explore": "lower points and directions",
    "report": "name fewer runs",
    "encode": "lower batch_size",
    "export": "lower n",
}
LESS["reproduce"] = LESS["train"]
#: A side of this many pixels is worth a word.
_LARGE = 128
#: What a disk that has no room left says.
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: What else files say of the machine, not of the program.
_MACHINE = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EMFILE, errno.ENFILE)


def describe(error: BaseException, verb: str = "") -> str:
    """One line for an exception that no command expected, and what to do where that is known."""
    return memory(error, verb) if out_of_memory(error) else reason(error)


def memory(error: BaseException, verb: str, shape: Sequence[int] = ()) -> str:
    """What to do where memory ran out.

    Args:
        error: what said so.
        verb: the command.
        shape: of an image, (C, H, W); empty where it is not known.
    """
    advice = [LESS[verb]] if verb in LESS else []
    if verb in ("train", "reproduce") and (not shape or max(shape[1:]) >= _LARGE):
        size = f" (they are {'x'.join(map(str, shape[1:]))} pixels)" if shape else ""
        advice.append(f"make large images smaller with dataset.image_size{size}")
    return ": ".join([reason(error), *(["; ".join(advice)] if advice else [])])


def reason(error: BaseException) -> str:
    """What happened, without advice; an error that ends a command in a line of its own has said it."""
    text = " ".join(str(error).split())
    if hasattr(error, "exit_status"):
        return text
    if out_of_memory(error):
        return f"out of memory ({textwrap.shorten(text, 120, placeholder=' ...')})"
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"the disk is full: {error.filename or text}"
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return f"{os.strerror(error.errno)}: {error.filename or text}"
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    if type(error).__name__ == "DistBackendError" or (
        isinstance(error, RuntimeError) and any(words in text for words in lost)
    ):
        return f"another process of this run ended: {text[:160]}"
    return f"internal error: {type(error).__name__}: {text} (GENTRAIN_DEBUG=1 shows the traceback)"


def compiler_failed(error: BaseException) -> bool:
    """Whether torch.compile, or the C++ compiler that it calls, gave up."""
    return any(kind.__module__ == "torch._dynamo.exc" for kind in type(error).__mro__)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the CPU had no memory left for a tensor."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
