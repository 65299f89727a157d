"""Captions as words: how a text is split, the vocabulary, and what a caption says.

A text's words are its letters and digits in lower case, joined by hyphens and apostrophes within them; other
punctuation separates words and is dropped.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gentrain.errors import UserError

if TYPE_CHECKING:
    from gentrain.contracts import DataSpec
    from gentrain.data.source import Data, Split

#: Stands for every word that training captions do not have; no text has it, for it has punctuation.
UNKNOWN = "<unknown>"
_WORD = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text, in order: "Woman firefighter, dark skin" -> woman, firefighter, dark, skin."""
    return _WORD.findall(unicodedata.normalize("NFC", text).lower().replace("\u2019", "'"))


def vocabulary_of(captions: Iterable[Sequence[str]], min_count: int = 1) -> tuple[str, ...]:
    """The words of captions that occur `min_count` times, in alphabetical order, and `UNKNOWN` last."""
    counts = Counter(word for words in captions for word in words)
    return (*sorted(word for word, count in counts.items() if count >= min_count), UNKNOWN)


def tokens_of(captions: Sequence[Sequence[Sequence[str]]], vocabulary: Sequence[str]) -> np.ndarray:
    """Captions of N images as numbers: int32 [N, T], or [N, K, T] where an image has up to K > 1 captions.

    Word i of the vocabulary is i + 1; 0 pads captions, and images with fewer of them.
    """
    number = {word: i for i, word in enumerate(vocabulary, 1)}
    unknown = number[UNKNOWN]
    most = max((len(of_image) for of_image in captions), default=1)
    longest = max((len(words) for of_image in captions for words in of_image), default=1)
    tokens = np.zeros((len(captions), most, longest), dtype=np.int32)
    for i, of_image in enumerate(captions):
        for k, words in enumerate(of_image):
            tokens[i, k, : len(words)] = [number.get(word, unknown) for word in words]
    return tokens[:, 0] if most == 1 else tokens


def text_of(tokens: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The words of a row of tokens, with spaces between them."""
    return " ".join(vocabulary[token - 1] for token in tokens if token)


def with_words_of(data: Data, spec: DataSpec) -> Data:
    """The same images, the words of their captions numbered as in `spec`.

    A word that it lacks is `UNKNOWN`, and a caption that is longer than its captions is cut.
    """
    then, now, length = spec.vocabulary, data.spec.vocabulary, spec.caption_length
    if then is None or now is None or length is None or (now, data.spec.caption_length) == (then, length):
        return data
    place = {word: i for i, word in enumerate(then, 1)}
    number = np.array([0, *(place.get(word, place.get(UNKNOWN, 0)) for word in now)], dtype=np.int32)

    def renumbered(split: Split) -> Split:
        old = number[split.parts["caption"]]
        new = np.zeros((*old.shape[:-1], length), dtype=np.int32)
        common = min(length, old.shape[-1])
        new[..., :common] = old[..., :common]
        return split.with_part("caption", new)

    return dataclasses.replace(
        data,
        spec=dataclasses.replace(data.spec, vocabulary=then, caption_length=length),
        train=renumbered(data.train),
        validation=None if data.validation is None else renumbered(data.validation),
        test=renumbered(data.test),
    )


# Combinations that are held out


def lines_of(text: str) -> tuple[str, ...]:
    """The lines of a file of combinations, as words; empty ones and what follows a # do not count."""
    found = (" ".join(words_of(line.partition("#")[0])) for line in text.splitlines())
    return tuple(line for line in found if line)


def holds(words: Sequence[str], combination: str) -> bool:
    """Whether a caption has the words of a combination in this order, others between them or not."""
    rest = iter(words)
    return all(word in rest for word in combination.split())


# What captions say


def phrases_in(said: Sequence[Any]) -> list[str]:
    """The different phrases of a fact, as captions have them, the longest first."""
    return sorted({" ".join(words_of(str(phrase))) for phrase in said} - {""}, key=len)[::-1]


def patterns_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """{name: a pattern whose groups are the values of a fact}, of phrases or of patterns.

    Args:
        facts: {name: [phrases], or a regular expression with groups, of words with spaces between them}.

    Raises:
        ValueError: no list of two phrases or more, and no regular expression with a group.
    """
    found = {}
    for name, said in facts.items():
        pattern = said
        if not isinstance(said, str):
            if not isinstance(said, Sequence):
                raise ValueError(f"dataset.facts.{name}: expected phrases, [PHRASE,PHRASE], found {said}")
            phrases = phrases_in(said)
            if len(phrases) < 2:
                raise ValueError(f"dataset.facts.{name}: expected two phrases or more, found {list(said)}")
            pattern = rf"(?<!\S)({'|'.join(map(re.escape, phrases))})(?!\S)"
        try:
            if not re.compile(pattern).groups:
                raise ValueError(f"dataset.facts.{name}: expected a group in ( ), found {pattern}")
        except re.error as error:
            raise ValueError(f"dataset.facts.{name}: {pattern} is no regular expression: {error}") from error
        found[str(name)] = pattern
    return found


def said(text: str, pattern: str) -> str | None:
    """What a caption says of a fact; None: nothing, or two things at once."""
    values = {value for found in re.finditer(pattern, text) for value in found.groups() if value}
    return values.pop() if len(values) == 1 else None


def combinations_in(held_out: Any, read: Any) -> tuple[str, ...]:
    """The combinations of `dataset.held_out`: a list of them, or a file's lines.

    Args:
        held_out: None, a list, or what `read` takes.
        read: a path -> the text of its file; may raise OSError.

    Raises:
        UserError: the file cannot be read, or there is none in it.
    """
    if held_out is None:
        return ()
    if isinstance(held_out, str):
        try:
            found = lines_of(read(held_out))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(
                f"dataset.held_out={held_out}: {why}; name a text file with a combination of words per line"
            ) from error
    else:
        found = lines_of("\n".join(map(str, held_out)))
    if not found:
        raise UserError(
            f"dataset.held_out={held_out}: expected combinations of words, one a line, found none"
        )
    return found
