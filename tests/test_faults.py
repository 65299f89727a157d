"""One line for what the machine does."""

from __future__ import annotations

import pytest

from gentrain.commands.verbs import VERBS
from gentrain.errors import Fault
from gentrain.faults import LESS, describe, memory, reason

FULL = MemoryError("can't allocate memory: you tried to allocate 99 bytes")


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"list", "doctor"}))
def test_what_takes_less_memory_is_a_setting_of_the_verb(verb: str) -> None:
    line = describe(FULL, verb)
    assert line.startswith("out of memory (can't allocate memory: you tried to allocate 99 bytes): ")
    assert LESS[verb] in line
    assert ("train." in line) == (verb in ("train", "reproduce"))
    assert "checkpoint" not in line, "there need not be any"


def test_large_images_are_named_where_they_may_be_what_is_too_much() -> None:
    assert "dataset.image_size (they are 3000x4000 pixels)" in memory(FULL, "train", (3, 3000, 4000))
    assert "dataset.image_size" in describe(FULL, "train"), "before the data are known"
    assert "image_size" not in memory(FULL, "train", (1, 28, 28))


def test_what_a_file_says_of_the_machine_is_no_internal_error() -> None:
    assert reason(OSError(28, "No space left on device", "a.png")) == "the disk is full: a.png"
    assert reason(OSError(5, "Input/output error", "a.png")) == "Input/output error: a.png"
    assert reason(Fault("it said so")) == "it said so"
    assert reason(ValueError("no")).startswith("internal error: ValueError: no")
