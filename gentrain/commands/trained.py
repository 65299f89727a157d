"""What commands on a trained model share: loading it, its data, the images that were named."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from gentrain import progress
from gentrain.api import Loaded, load_checkpoint
from gentrain.building import build_source
from gentrain.commands.abilities import capable
from gentrain.commands.same_data import reconciled, section
from gentrain.contracts import Batch, DataSpec, LatentsToImages, Samples, StandingStatistics
from gentrain.data.batches import images_at, in_order
from gentrain.data.pictures import read_images
from gentrain.data.source import Data, Source, Split
from gentrain.errors import UserError
from gentrain.saying import warn_in_one_line
from gentrain.training import cpu, distributed, randomness
from gentrain.training.precision import pick_device

#: Test images that are taken where none are named.
FIRST = 8
#: Batches over which statistics are taken where latents are truncated, and draws in each.
STANDING, STANDING_SIZE = 16, 64


def open_model(config: DictConfig) -> Loaded:
    """The model that `ckpt` names, on `device`, in eval mode, everything seeded.

    Raises:
        UserError: no such checkpoint, or started by torchrun.
    """
    if distributed.launched_size() > 1:
        raise UserError("only gentrain train runs in several processes; start this command without torchrun")
    warnings.showwarning = warn_in_one_line
    device = pick_device(config.device)
    cpu.prepare(device, config.threads)
    loaded = load_checkpoint(config.ckpt, device, list(config.trust), config.ema)
    randomness.seed_everything(int(config.seed))
    return loaded


def device_of(loaded: Loaded) -> torch.device:
    """Where the model is."""
    return next(loaded.model.parameters()).device


def source_of(loaded: Loaded, config: DictConfig) -> Source:
    """The data set that the model was trained on, where it lies now; nothing is read.

    What the checkpoint says of whom to trust does not count: `config.trust` does.

    Raises:
        UserError: a setting that does not fit.
    """
    return build_source(section(loaded.config.dataset, loaded.state, config.dataset), list(config.trust))


def open_data(loaded: Loaded, config: DictConfig) -> Data:
    """The images of `source_of`, opened once; how they differ from those of training is in `loaded.change`.

    Raises:
        UserError: missing, damaged, or not those of training in a way that matters (`same_data.reconciled`).
    """
    if loaded.data is None:
        data = source_of(loaded, config).load()
        named = config.dataset.root is not None or config.dataset.background is not None
        loaded.data, loaded.change = reconciled(data, loaded.state, typed=named)
    return loaded.data


def split_of(data: Data, name: str) -> Split:
    """`train`, `validation` or `test`.

    Raises:
        UserError: the run held no validation images back.
    """
    split = getattr(data, name)
    if split is None:
        raise UserError("this run has no validation images (dataset.validation=0); use split=test")
    return split


def batches_of(
    data: Data, split: Split, config: DictConfig, device: torch.device, limit: int | None = None
) -> Iterator[Batch]:
    """Every image of `split` once, in order, at most `limit`."""
    return in_order(
        data, split, batch_size=config.batch_size, device=device, seed=int(config.seed), limit=limit
    )


def label_names(data: Data) -> tuple[str, ...]:
    """One name per label, its number where the data set gives it none.

    Raises:
        UserError: the data have no labels.
    """
    if data.spec.label_words is None or data.train.labels is None:
        raise UserError(f"the data ({data.name}) have no labels, which this needs")
    return data.spec.label_words


def samples_of(
    loaded: Loaded,
    n: int,
    given: Tensor | None = None,
    temperature: float = 1.0,
    truncation: float | None = None,
    length: int | None = None,
    chunk: int = 500,
) -> Iterator[Tensor]:
    """`n` samples of the model, `chunk` at a time: uint8 [chunk, C, H, W] on its device, with a bar.

    Args:
        loaded: the model.
        n: how many.
        given: what every image is to have, a label, int64 [], or attributes, bool [A].
        temperature: as the model takes it.
        truncation: of normal latents, which the model then must have; None: none.
        length: W of what is drawn, where that is not the spec's.
        chunk: images at once.

    Raises:
        UserError: the model does not sample so.
    """
    model = capable(loaded, Samples, "sample")
    # A bar of images where they come in several parts; a slow model shows one of its own within each.
    hidden = True if n <= chunk else None
    with progress.shown(), tqdm(total=n, unit="image", disable=hidden) as bar:
        for start in range(0, n, chunk):
            count = min(chunk, n - start)
            try:
                if truncation is None:
                    yield model.sample(count, temperature, condition=given, length=length)
                else:
                    latents = capable(loaded, LatentsToImages, "truncation")
                    y = None if given is None else given.expand(count, *given.shape)
                    z = latents.truncated(latents.prior_draws(count, condition=y), truncation)
                    yield latents.latents_to_images(temperature * z, condition=y)
            except ValueError as error:
                raise UserError(f"sample: {error}") from error
            bar.update(count)


def stand(loaded: Loaded, config: DictConfig) -> None:
    """Take the statistics of BatchNorm anew, as `standing` and `truncation` say.

    Raises:
        UserError: a model that has none, asked for, or a truncation that its prior does not have.
    """
    batches = (STANDING if config.truncation else 0) if config.standing is None else config.standing
    if not batches or (config.standing is None and not isinstance(loaded.model, StandingStatistics)):
        return
    model = capable(loaded, StandingStatistics, "standing statistics")
    try:
        model.stand(batches, STANDING_SIZE, config.truncation)
    except ValueError as error:
        raise UserError(f"truncation={config.truncation}: {error}") from error


def index_list(images: str | None) -> list[int] | None:
    """The numbers in `images=0,1,2`; None where it is a path, or not typed."""
    numbers = "" if images is None else images.strip().strip("[]()")
    if re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", numbers) is None:
        return None
    return [int(i) for i in numbers.split(",")]


def named_batch(images: str | None, loaded: Loaded, config: DictConfig) -> Batch:
    """The images that `images=` names: test indices, with what the data say of them, a file, or a folder.

    None: the first `FIRST` test images, or all where there are fewer.

    Returns:
        x in the model's levels, everything on its device.

    Raises:
        UserError: no such index, file or folder, or not an image.
    """
    numbers = index_list(images)
    if images is None or numbers is not None:
        data = open_data(loaded, config)
        first = range(min(FIRST, len(data.test)))
        indices = first if numbers is None else numbers
        batch = images_at(data, data.test, indices, int(config.seed))
    elif loaded.model.spec.sample_rate is not None:
        raise UserError(
            f"images={images.strip()}: {loaded.config.names.model} makes sounds; give numbers of test crops, "
            "images=0,1, or go on with recordings: gentrain complete sounds=FILE"
        )
    else:
        batch = Batch(images_in(images, loaded.model.spec))
    return batch.map(lambda part: part.to(device_of(loaded)))


def images_in(images: str, spec: DataSpec) -> Tensor:
    """The images of the file or folder that `images=` names, uint8 [B, C, H, W]; says how they were changed.

    Raises:
        UserError: nothing there, or not an image.
    """
    path = Path(images.strip()).expanduser()
    if not path.exists():
        raise UserError(
            f"images={images.strip()}: expected test indices such as 0,1,2, an image file or a folder"
        )
    found, changes = read_images(path, spec)
    for change in changes:
        print(f"note    {change}")
    return found
