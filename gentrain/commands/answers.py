"""The answers to a quiz of several people, put together: `gentrain quiz results=[a.json,b.json]`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gentrain.commands.output import Output
from gentrain.commands.several import several
from gentrain.errors import UserError
from gentrain.files import read_text
from gentrain.images import check_out
from gentrain.metrics.proportion import wilson
from gentrain.pages.quiz import Answers, read_answers


def pooled(config: DictConfig) -> list[str]:
    """The answers of several people, person by person and together; what to say.

    Raises:
        UserError: a file without answers, those of another quiz, or a person's twice.
    """
    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None:
        check_out(out, (".json",))
    found = [answers_in(place) for place in several("results", config.results)]
    check_together(found)
    about, versus = found[0].about, bool(found[0].about["versus"])
    entries = [share(sum(one.right.values()), len(one.right)) for one in found]
    right, n = sum(entry["right"] for entry in entries), sum(entry["n"] for entry in entries)
    total = share(right, n)
    what = f"for {about['first']}" if versus else "right"
    lines = [f"quiz    {found[0].quiz}: {about['first']} against {about['second']}, {len(found)} people"]
    lines += [
        f"person  {one.name}: {in_words(entry, what)}" for one, entry in zip(found, entries, strict=True)
    ]
    lines += [f"all     {in_words(total, what)}; chance is 50 %: {verdict(total, versus)}"]
    shares = [entry["share"] for entry in entries]
    if len(shares) > 1:
        mean = sum(shares) / len(shares)
        error = math.sqrt(sum((one - mean) ** 2 for one in shares) / (len(shares) - 1) / len(shares))
        lines += [f"        {100 * mean:.1f} +- {100 * error:.1f} % over people (mean, standard error)"]
    by_question = {i: [one.right[i] for one in found] for i in range(about["n"])}
    hardest = min(by_question, key=lambda i: (sum(by_question[i]), i))
    if not versus:
        lines += [f"hardest question {hardest + 1}: {sum(by_question[hardest])} of {len(found)} right"]
    if out is not None:
        kept = {
            "quiz": found[0].quiz,
            **about,
            "people": [{"file": one.name, **entry} for one, entry in zip(found, entries, strict=True)],
            "all": total,
            "right_by_question": [sum(by_question[i]) for i in range(about["n"])],
        }
        output = Output(config, None, "", (".json",))
        output.text(json.dumps(kept, indent=2) + "\n")
        lines += [output.wrote("what is said above")]
    return [*lines, "next    gentrain quiz --help"]


def answers_in(place: str) -> Answers:
    """The answers in a file.

    Raises:
        UserError: there are none.
    """
    try:
        return read_answers(read_text(Path(place).expanduser()), place)
    except OSError as error:
        raise UserError(f"results: {place} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"results: {place}: {error}") from error


def check_together(found: Sequence[Answers]) -> None:
    """See that all answers are of one quiz, and each of another person.

    Raises:
        UserError: they are not.
    """
    people: dict[str, str] = {}
    for one in found:
        if one.quiz != found[0].quiz or one.about != found[0].about:
            raise UserError(
                f"results: {one.name} is of another quiz ({one.quiz}) than {found[0].name} "
                f"({found[0].quiz}); only answers to the same pictures go together"
            )
        if one.person in people:
            raise UserError(f"results: {people[one.person]} and {one.name} are the same person's answers")
        people[one.person] = one.name


def share(right: int, n: int) -> dict[str, Any]:
    """A share with its 95 % interval."""
    low, high = wilson(right, n)
    return {"right": right, "n": n, "share": right / n, "low": low, "high": high}


def in_words(entry: Mapping[str, Any], what: str) -> str:
    """`14 of 20 right, 70.0 % (48.1 to 85.5)`."""
    low, high = 100 * entry["low"], 100 * entry["high"]
    return f"{entry['right']} of {entry['n']} {what}, {100 * entry['share']:.1f} % ({low:.1f} to {high:.1f})"


def verdict(entry: Mapping[str, Any], versus: bool) -> str:
    """What the interval says."""
    if entry["low"] <= 0.5 <= entry["high"]:
        return "the interval holds it"
    above = entry["low"] > 0.5
    if versus:
        return "the first is preferred" if above else "the second is preferred"
    return "fakes are told from real pictures" if above else "fakes look more real than real pictures"
