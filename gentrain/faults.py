"""What the machine did to a run, in one line."""

from __future__ import annotations

import errno
import textwrap


def describe(error: BaseException) -> str:
    """One line for an exception that no command expected."""
    text = " ".join(str(error).split())
    if out_of_memory(error):
        reason = textwrap.shorten(text, 120, placeholder=" ...")
        return (
            f"out of memory ({reason}): lower train.batch_size, raise "
            "train.accumulate to split each batch into more micro-batches, or make the model smaller; "
            "checkpoints written before are intact"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {error.filename or text}"
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    if type(error).__name__ == "DistBackendError" or (
        isinstance(error, RuntimeError) and any(words in text for words in lost)
    ):
        return f"another process of this run ended: {text[:160]}"
    return f"internal error: {type(error).__name__}: {text} (GENTRAIN_DEBUG=1 shows the traceback)"


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the CPU had no memory left for a tensor."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
