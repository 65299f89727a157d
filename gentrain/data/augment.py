"""What is done to training images when they are served: mirrored, cropped, binarised.

A pure function of (seed, step): draws are for the whole batch, of which each rank uses its part. A partner
image (`paired`) is mirrored and cropped in step with its image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gentrain.contracts import Batch
from gentrain.data.draws import bernoulli, bernoulli_on_device, generator, seed_of
from gentrain.data.source import Data
from gentrain.errors import UserError


class Augment:
    """Called with a rank's part of a batch and its step.

    Args:
        data: which says what is to be done.
        seed: of the draws.
        batch_size: B, images of the whole batch.
        part: which of them this rank has.
        device: where the batch lies.
    """

    def __init__(self, data: Data, seed: int, batch_size: int, part: slice, device: torch.device) -> None:
        self._data, self._seed, self._batch_size, self._part = data, seed, batch_size, part
        self._device = device
        self._draw = torch.Generator(device=device)
        #: What moves with an image, and how many of its pixels are one of the image's.
        self._moving = {"x": 1}
        if data.spec.paired and data.spec.source_shape is not None:
            self._moving["source"] = self._times(data.spec.source_shape, data.spec.shape)

    def _times(self, source: tuple[int, int, int], shape: tuple[int, int, int]) -> int:
        """How many times the partner's resolution is the image's."""
        times, rest = divmod(source[1], shape[1])
        if self._data.crop and (rest or source[2] != times * shape[2]):
            raise UserError(
                f"dataset.crop={self._data.crop}: expected partner images of {shape[1]}x{shape[2]} or a "
                f"whole multiple, to be cropped in step, found {source[1]}x{source[2]}; set dataset.crop=0"
            )
        return times

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch as it is served; on a CPU its images may be changed in place."""
        return self._in_numpy(batch, step) if self._device.type == "cpu" else self._on_device(batch, step)

    def _in_numpy(self, batch: Batch, step: int) -> Batch:
        data, draw = self._data, generator("augment", self._seed, step)
        images = {name: getattr(batch, name).numpy() for name in self._moving}
        if data.flip:
            mirrored = (draw.random(self._batch_size) < 0.5)[self._part]
            for moving in images.values():
                moving[mirrored] = moving[mirrored, ..., ::-1]
        if data.crop:
            places = draw.integers(0, 2 * data.crop + 1, (self._batch_size, 2))[self._part]
            images = {
                name: cropped(moving, self._moving[name] * places, self._moving[name] * data.crop)
                for name, moving in images.items()
            }
        if data.binarize == "dynamic":
            x = images["x"]
            uniform = draw.random((self._batch_size, *x.shape[1:]), dtype=np.float32)
            images["x"] = bernoulli(x, data.stored_levels, uniform[self._part])
        return batch._replace(**{name: torch.from_numpy(moving) for name, moving in images.items()})

    def _on_device(self, batch: Batch, step: int) -> Batch:
        data, device, part = self._data, self._device, self._part
        draw = self._draw.manual_seed(seed_of("augment", self._seed, step))
        images: dict[str, Tensor] = {name: getattr(batch, name) for name in self._moving}
        if data.flip:
            mirrored = torch.rand(self._batch_size, generator=draw, device=device)[part] < 0.5
            choose = mirrored[:, None, None, None]
            images = {name: torch.where(choose, moving.flip(-1), moving) for name, moving in images.items()}
        if data.crop:
            size = (self._batch_size, 2)
            places = torch.randint(0, 2 * data.crop + 1, size, generator=draw, device=device)[part]
            images = {
                name: cropped_on_device(x, self._moving[name] * places, self._moving[name] * data.crop)
                for name, x in images.items()
            }
        if data.binarize == "dynamic":
            x = images["x"]
            uniform = torch.rand((self._batch_size, *x.shape[1:]), generator=draw, device=device)
            images["x"] = bernoulli_on_device(x, data.stored_levels, uniform[part])
        return batch._replace(**images)


def cropped(images: np.ndarray, places: np.ndarray, pad: int) -> np.ndarray:
    """Images [B, C, H, W] padded by `pad` pixels, mirrored at the edges, and cut out at `places` [B, 2]."""
    height, width = images.shape[-2:]
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    rows = places[:, 0, None] + np.arange(height)  # [B, H]
    columns = places[:, 1, None] + np.arange(width)
    which = np.arange(len(images))[:, None, None]
    picked = padded.transpose(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
    return np.ascontiguousarray(picked.transpose(0, 3, 1, 2))


def cropped_on_device(images: Tensor, places: Tensor, pad: int) -> Tensor:
    """`cropped` of tensors."""
    height, width = images.shape[-2:]

    def mirrored(start: Tensor, size: int) -> Tensor:
        """Where each row of the cut lies in the image: start - pad ..., mirrored at the edges, [B, size]."""
        at = start[:, None] + torch.arange(size, device=images.device) - pad
        at = torch.where(at < 0, -1 - at, at)
        return torch.where(at >= size, 2 * size - 1 - at, at)

    rows, columns = mirrored(places[:, 0], height), mirrored(places[:, 1], width)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return (
        images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )
