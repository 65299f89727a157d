"""The quiz: pictures of two kinds on one sheet, and a page that asks which is which.

The protocol is that of two-alternative forced choice with practice before what counts, as in Zhou et al.
2019, "HYPE: A Benchmark for Human eYe Perceptual Evaluation of Generative Models", arXiv:1904.01121.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentrain.data.draws import seed_of
from gentrain.pages.page import data_uri, rendered, sheet

#: What a file of answers begins with, and its version.
FORMAT = "gentrain quiz"
VERSION = 1


@dataclass(frozen=True)
class Nearest:
    """The training image nearest to a picture.

    tile: uint8 [1 or 3, H, W]; difference: root of the mean squared difference of pixels, 0..1.
    """

    tile: Tensor
    difference: float


@dataclass(frozen=True)
class Pair:
    """Two pictures of one question.

    Args:
        first: the fake, or the first model's; uint8 [1 or 3, H, W] in 0 .. 255.
        second: the real one, or the second model's.
        nearest: of the training images, to `first` and to `second`; None where there is none to show.
    """

    first: Tensor
    second: Tensor
    nearest: tuple[Nearest | None, Nearest | None] = (None, None)


@dataclass(frozen=True)
class Quiz:
    """What is asked.

    Args:
        pairs: all questions, those for practice first.
        practice: how many are.
        first, second: what the two kinds of pictures are, in words.
        versus: whether both kinds were made: then no answer is right, and the one chosen is preferred.
        show: pairs or single, to begin with.
        question: fake or real, to begin with.
        seconds: after which the pictures of a question are covered; None: never.
        seed: of the order.
        notes: lines for who reads the end.
    """

    pairs: Sequence[Pair]
    practice: int
    first: str
    second: str
    versus: bool
    show: str
    question: str
    seconds: float | None
    seed: int
    notes: tuple[str, ...] = ()


def quiz_page(quiz: Quiz) -> str:
    """The page.

    Where a picture lies on the sheet, on which side it is shown, and which of a pair is shown by itself are
    drawn from the seed, each by a fair coin.
    """
    tiles: list[Tensor] = []
    for pair in quiz.pairs:
        tiles += [pair.first, pair.second, *(near.tile for near in pair.nearest if near is not None)]
    draws = np.random.default_rng(seed_of("quiz", quiz.seed))
    place = draws.permutation(len(tiles)).tolist()  # of tile i on the sheet
    on_sheet = [tiles[i] for i in torch.tensor(place).argsort().tolist()]
    png, columns = sheet(on_sheet)
    numbers = iter(place)
    pairs = []
    for pair in quiz.pairs:
        both = [next(numbers), next(numbers)]
        near = [None if n is None else (next(numbers), round(255 * n.difference, 1)) for n in pair.nearest]
        left, single = (int(coin) for coin in draws.integers(0, 2, 2))
        # The first of the pair lies on the side `first`: 0 is A, on the left.
        pairs.append(
            {
                "tiles": both[::-1] if left else both,
                "near": near[::-1] if left else near,
                "first": left,
                "single": single,
            }
        )
    _, height, width = tiles[0].shape
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "practice": quiz.practice,
        "first": quiz.first,
        "second": quiz.second,
        "versus": quiz.versus,
        "pairs": pairs,
    }
    about["quiz"] = hashlib.sha256(png + json.dumps(about).encode()).hexdigest()[:16]
    page = {"columns": columns, "height": height, "width": width}
    begin = {"show": quiz.show, "question": quiz.question, "seconds": quiz.seconds}
    return rendered(
        "quiz",
        about=about,
        page=page,
        begin=begin,
        scored=len(pairs) - quiz.practice,
        sheet=data_uri(png),
        notes=quiz.notes,
    )


# Answers


@dataclass(frozen=True)
class Answers:
    """One person's answers that count.

    Args:
        name: of the file.
        quiz: which it was.
        person: a number of the page's own.
        about: what was shown: first, second, versus, n.
        right: {question: whether it was right, or the first model's picture preferred}.
        seconds: of all answers together.
    """

    name: str
    quiz: str
    person: str
    about: Mapping[str, Any]
    right: Mapping[int, bool]
    seconds: float


def read_answers(text: str, name: str) -> Answers:
    """The answers in a file that the page wrote.

    Raises:
        ValueError: it is none; says what is wrong.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("it holds no answers of a quiz; take the file that the page lets you download")
    if found.get("version") != VERSION:
        raise ValueError(f"it is of version {found.get('version')!r}; this gentrain reads {VERSION}")
    n = found.get("n")
    answers = found.get("answers")
    words = all(isinstance(found.get(key), str) for key in ("quiz", "person", "first", "second"))
    if not words or type(n) is not int or not isinstance(found.get("versus"), bool) or n < 1:
        raise ValueError("it is damaged: quiz, person, first, second, versus or n is not what it was")
    if not isinstance(answers, list) or len(answers) != n:
        raise ValueError(f"it has not the {n} answers that it says")
    right: dict[int, bool] = {}
    seconds = 0.0
    for answer in answers:
        fits = isinstance(answer, dict) and type(answer.get("pair")) is int
        fits = fits and isinstance(answer.get("right"), bool)
        fits = fits and isinstance(answer.get("seconds"), (int, float)) and 0 <= answer["seconds"] < 1e9
        if not fits or not 0 <= answer["pair"] < n or answer["pair"] in right:
            raise ValueError("one of its answers is damaged, or there twice")
        right[answer["pair"]] = answer["right"]
        seconds += answer["seconds"]
    about = {key: found[key] for key in ("first", "second", "versus", "n")}
    return Answers(name, found["quiz"], found["person"], about, right, seconds)
