"""`gentrain quiz`: a page that asks which picture is fake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.answers import pooled
from gentrain.commands.asked import Asked
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.several import several
from gentrain.commands.trained import device_of, open_data, open_model
from gentrain.config import conform
from gentrain.contracts import Batch, Samples
from gentrain.data.batches import images_at
from gentrain.data.decoding import BadImage, decode_image
from gentrain.data.draws import permutation
from gentrain.data.pictures import drawn_images
from gentrain.data.source import Data
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.images import to_display
from gentrain.metrics.nearest import nearest
from gentrain.pages.page import check_size
from gentrain.pages.quiz import Nearest, Pair, Quiz, quiz_page
from gentrain.schemas import QuizConfig


def run(asked: Asked) -> None:
    """Write the page: of a model, of two against each other, of two folders; or put answers together.

    Raises:
        UserError: a model without samples, more questions than test images, settings that exclude each other,
            files that hold no answers or those of another quiz, or a page that would be too large.
    """
    config = conform(QuizConfig, asked.config)
    typed = {plain_key(override) for override in asked.typed}
    ways: list[str] = [key for key in ("results", "ckpt") if key in typed]
    ways += ["real and fake"] if typed & {"real", "fake"} else []
    if len(ways) > 1:
        raise UserError(f"{' and '.join(ways)} each say what the quiz is of; give one of them")
    if config.results is not None:
        print("\n".join(pooled(config)))
    elif config.real is not None or config.fake is not None:
        of_folders(config)
    else:
        of_models(config)


# Of models


def of_models(config: DictConfig) -> None:
    """A model's samples against test images, or the samples of two models against each other."""
    places = several("ckpt", config.ckpt)
    if len(places) > 2:
        raise UserError(f"ckpt={config.ckpt}: expected one model or two, found {len(places)}")
    models = [opened(config, place) for place in places]
    versus = len(models) == 2
    practice = 0 if versus else config.practice
    count = practice + config.n
    if versus:
        check_same_size(models)
    out = Output(config, None if versus else models[0], "quiz.html", (".html",))
    batches = [test_images(loaded, config, count) for loaded in models]
    kinds = [fakes(loaded, batch, config) for loaded, batch in zip(models, batches, strict=True)]
    near = [nearest_training(loaded, fake) for loaded, fake in zip(models, kinds, strict=True)]
    spec = models[0].model.spec
    first = to_display(kinds[0], spec.levels)
    second = to_display(*((kinds[1], models[1].model.spec.levels) if versus else (batches[0].x, spec.levels)))
    beside = near[1] if versus else [None] * count
    pairs = [
        Pair(*parts[:2], nearest=parts[2:]) for parts in zip(first, second, near[0], beside, strict=True)
    ]
    names = [f"{called(loaded)}, step {loaded.step}" for loaded in models]
    if versus and names[0] == names[1]:
        names = [
            f"{name} ({loaded.run.folder.name if loaded.run else loaded.path})"
            for name, loaded in zip(names, models, strict=True)
        ]
    quiz = quiz_of(config, pairs, practice, names[0], names[1] if versus else "test images", versus)
    write(out, quiz, config)
    print(f"next    {next_command(models[0].model, ckpt_argument(models[0]), 'sample', config=config)}")


def opened(config: DictConfig, place: str) -> Loaded:
    """The model at `place`, which must draw pictures.

    Raises:
        UserError: it does not.
    """
    loaded = open_model(OmegaConf.merge(config, {"ckpt": place}))  # type: ignore[arg-type]
    capable(loaded, Samples, "quiz")
    if loaded.model.spec.sample_rate is not None:
        raise UserError(f"quiz: {loaded.config.names.model} makes sound, and the quiz shows pictures")
    return loaded


def check_same_size(models: Sequence[Loaded]) -> None:
    """See that no picture tells by its size, or by having colours, whose it is.

    Raises:
        UserError: it would.
    """
    shapes = [list(loaded.model.spec.shape) for loaded in models]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"the two models draw {shapes[0]} and {shapes[1]}: their size would tell which is which"
        )


def called(loaded: Loaded) -> str:
    """The model and its data, in words."""
    return f"{loaded.config.names.model} on {loaded.config.names.dataset}"


def test_images(loaded: Loaded, config: DictConfig, count: int) -> Batch:
    """`count` test images, drawn from the seed, each another, with what is known of them.

    Raises:
        UserError: there are fewer.
    """
    data = open_data(loaded, config)
    if count > len(data.test):
        more = f" and practice={count - config.n}" if count > config.n else ""
        most = len(data.test) - (count - config.n)
        hint = f"; at most n={most}" if most > 0 else "; practice=0 leaves more"
        raise UserError(f"n={config.n}{more} want {count:,} of the {len(data.test):,} test images{hint}")
    numbers = permutation(len(data.test), "quiz", int(config.seed))[:count].tolist()
    return images_at(data, data.test, numbers, int(config.seed)).map(lambda part: part.to(device_of(loaded)))


def fakes(loaded: Loaded, batch: Batch, config: DictConfig) -> Tensor:
    """As many samples as `batch` has images, each given what is known of its image: uint8 [B, C, H, W].

    Raises:
        UserError: the model does not sample so.
    """
    model = capable(loaded, Samples, "quiz")
    try:
        with torch.no_grad():
            return model.sample(
                len(batch.x), config.temperature, condition=loaded.model.condition_in(batch)
            ).cpu()
    except ValueError as error:
        raise UserError(f"quiz: {error}") from error


def nearest_training(loaded: Loaded, x: Tensor) -> list[Nearest | None]:
    """For each of `x` the training image that is nearest to it."""
    data: Data | None = loaded.data
    assert data is not None
    numbers, differences = nearest(x, data.train.images, data.spec.levels, data.stored_levels)
    tiles = to_display(torch.from_numpy(data.train.images[numbers]), data.stored_levels)
    return [Nearest(tile, difference) for tile, difference in zip(tiles, differences, strict=True)]


# Of folders


def of_folders(config: DictConfig) -> None:
    """Anyone's pictures: those of `real` against those of `fake`, all brought to one size.

    Raises:
        UserError: only one of the two, too few pictures, or one that cannot be read.
    """
    for key, other in (("real", "fake"), ("fake", "real")):
        if config[key] is None:
            raise UserError(f"{other}={config[other]} goes with {key}=FOLDER, which is missing")
    out = Output(config, None, "quiz.html", (".html",))
    count = config.practice + config.n
    kinds = {
        key: drawn_images(Path(config[key]).expanduser(), key, count, "quiz", key, int(config.seed))
        for key in ("fake", "real")
    }
    # No picture is enlarged: those that were would tell by their blur.
    shortest = min(
        min(decoded(name, content, None).shape[1:]) for both in kinds.values() for name, content in both
    )
    side = min(config.image_size, shortest)
    fake, real = ([decoded(name, content, side) for name, content in both] for both in kinds.values())
    pairs = [Pair(*pair) for pair in zip(fake, real, strict=True)]
    quiz = quiz_of(config, pairs, config.practice, "fake pictures", "real pictures", False)
    write(out, quiz, config)
    print("next    gentrain quiz --help")


def decoded(name: str, content: bytes, side: int | None) -> Tensor:
    """A file's picture, uint8 [3, H, W]; square, cropped from the centre, where `side` is given.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return torch.from_numpy(decode_image(content, None if side is None else (side, side), 3))
    except (BadImage, OSError) as error:
        raise UserError(f"{name} cannot be read: {error}") from error


# The page


def quiz_of(
    config: DictConfig, pairs: Sequence[Pair], practice: int, first: str, second: str, versus: bool
) -> Quiz:
    """The quiz as the settings want it."""
    notes = ["The nearest training image is the one with the smallest mean squared difference of pixels."]
    return Quiz(
        pairs=pairs,
        practice=practice,
        first=first,
        second=second,
        versus=versus,
        show="pairs" if versus else config.show,
        question="real" if versus and config.question == "fake" else config.question,
        seconds=config.seconds,
        seed=int(config.seed),
        notes=tuple(notes) if pairs[0].nearest[0] is not None else (),
    )


def write(out: Output, quiz: Quiz, config: DictConfig) -> None:
    """Write the page, and say what it is.

    Raises:
        UserError: it would be too large.
    """
    page = quiz_page(quiz)
    smaller = ", or a smaller image_size" if config.real is not None else ""
    check_size(page, lambda part: f"n={max(1, int(0.9 * part * config.n))} gives a smaller one{smaller}")
    out.text(page)
    scored = len(quiz.pairs) - quiz.practice
    practice = f" after {quiz.practice} for practice" if quiz.practice else ""
    print(
        out.wrote(
            f"{scored} questions{practice}: {quiz.first} against {quiz.second}, {len(page) / 1e6:.1f} MB"
        )
    )
    print(
        "open    it in a browser; the answers can be downloaded there: gentrain quiz results=[a.json,b.json]"
    )
