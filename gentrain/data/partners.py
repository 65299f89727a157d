"""Partners made from the images themselves: the `source` that is to become the image.

Every map is exact, deterministic and of one image alone: test images' partners are made of test images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from gentrain.contracts import DataSpec
from gentrain.data.archive import is_image, open_archive
from gentrain.data.cache import Builder, Entry
from gentrain.data.decoding import BadImage, decode_image
from gentrain.data.draws import draws_by_name, generator
from gentrain.data.parts import PARTS
from gentrain.errors import UserError

_CHUNK = 1024  # images handled at a time
_SHRINK = 4  # pixels of a side that become one
#: Photographs that backgrounds are taken from, at most.
MOST_BACKGROUNDS = 4096
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601


def _grey(x: np.ndarray, top: int) -> np.ndarray:
    """[n, C, H, W] -> the luma, uint8 [n, 1, H, W]."""
    if x.shape[1] == 1:
        return x
    return np.rint(np.einsum("nchw,c->nhw", x.astype(np.float32), _LUMA)).astype(np.uint8)[:, None]


def _edges(x: np.ndarray, top: int) -> np.ndarray:
    """-> the magnitude of Sobel's gradient of the luma, [n, 1, H, W]; `top` is a step from black to white."""
    grey = _grey(x, top).astype(np.float32)
    kernel = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)[None, None]
    across, down = (ndimage.correlate(grey, k, mode="nearest") for k in (kernel, kernel.swapaxes(2, 3)))
    return np.rint(np.minimum(np.hypot(across, down) / 4, top)).astype(np.uint8)


def _outline(x: np.ndarray, top: int) -> np.ndarray:
    """-> what a 3x3 neighbourhood's lightest pixel has above its darkest, of the luma, [n, 1, H, W]."""
    grey, window = _grey(x, top), (1, 1, 3, 3)
    return ndimage.maximum_filter(grey, window, mode="nearest") - ndimage.minimum_filter(
        grey, window, mode="nearest"
    )


def _shrink(x: np.ndarray, top: int) -> np.ndarray:
    """-> the means of 4x4 pixels, [n, C, H / 4, W / 4]."""
    n, channels, height, width = x.shape
    blocks = x.reshape(n, channels, height // _SHRINK, _SHRINK, width // _SHRINK, _SHRINK)
    return np.rint(blocks.mean((3, 5), dtype=np.float32)).astype(np.uint8)


def _hole(x: np.ndarray, top: int) -> np.ndarray:
    """-> the same with the middle half of each side grey, [n, C, H, W]."""
    height, width = x.shape[2:]
    holed = x.copy()
    holed[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = (top + 1) // 2
    return holed


def _invert(x: np.ndarray, top: int) -> np.ndarray:
    """-> the negative, [n, C, H, W]."""
    return (top - x).astype(np.uint8)


#: {`dataset.source`: (images uint8 [n, C, H, W], their highest level) -> their partners, [n, C', H', W']}.
MAKERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "grey": _grey,
    "edges": _edges,
    "outline": _outline,
    "shrink": _shrink,
    "hole": _hole,
    "invert": _invert,
}


def photographs(root: Path, size: tuple[int, int], seed: int) -> np.ndarray:
    """At most `MOST_BACKGROUNDS` images of a folder or zip, drawn by name, uint8 [N, 3, H, W].

    Raises:
        UserError: nothing there, or no image that can be decoded.
    """
    with open_archive(root, "dataset.background") as archive:
        names = [file.name for file in archive.files if is_image(file.name)]
        order = np.argsort(draws_by_name(names, "background", seed), kind="stable")
        found = []
        for i in sorted(order[:MOST_BACKGROUNDS].tolist()):
            try:
                found.append(decode_image(archive.read(names[i]), size, 3))
            except (BadImage, OSError) as error:
                raise UserError(
                    f"dataset.background={root}: {names[i]} cannot be decoded: {error}; mend or remove it"
                ) from error
    if not found:
        raise UserError(f"dataset.background={root} holds no image (.png, .jpg, ...)")
    return np.stack(found)


def add_partners(
    builder: Builder, images: Entry, source: str, paired: bool, background: Path | None, seed: int
) -> None:
    """Fill an entry with the arrays of another, and with the partners of its images.

    Args:
        builder: of the new entry.
        images: the entry without partners.
        source: one of `source.SOURCES`.
        paired: whether they are served as partners. If not, the training images of even number give the
            sources and those of odd number are the images, so that no pair is trained on; other splits keep
            their pairs.
        background: of photographs, for "background".
        seed: of which photograph is behind which image.

    Raises:
        UserError: images of other levels than photographs, or of sides that do not shrink.
    """
    spec = DataSpec.from_dict(images.info["spec"])
    _, height, width = spec.shape
    if background is not None and spec.levels != 256:
        raise UserError(f"dataset.source={source}: expected images of 256 levels, found {spec.levels}")
    if source == "shrink" and (height % _SHRINK or width % _SHRINK):
        raise UserError(
            f"dataset.source=shrink: expected sides that are multiples of {_SHRINK}, found {height}x{width}"
        )
    maker: Callable[[np.ndarray, str, int], np.ndarray]
    if background is None:
        make, top = MAKERS[source], spec.levels - 1
        maker = lambda x, split, first: make(x, top)  # noqa: E731
    else:
        maker = _over(photographs(background, (height, width), seed), seed)
    x_name, source_name = PARTS["x"].stored, PARTS["source"].stored
    shape: tuple[int, ...] = ()
    for name, array in images.arrays.items():
        split, _, what = name.partition("_")
        halved = split == "train" and not paired
        if what != x_name:
            builder.add(name, np.array(array[1::2] if halved else array))
            continue
        targets = array[1::2] if halved else array
        sources = array[0::2][: len(targets)] if halved else array
        one = maker(np.array(sources[:1]), split, 0)
        shape = one.shape[1:]
        kept = builder.create(name, targets.shape, np.uint8)
        made = builder.create(f"{split}_{source_name}", (len(sources), *shape), np.uint8)
        for start in range(0, len(targets), _CHUNK):
            rows = slice(start, start + _CHUNK)
            kept[rows] = targets[rows]
            made[rows] = maker(np.array(sources[rows]), split, start)
            builder.release()
    apart = "" if paired else ", of other images in training"
    builder.info.update(
        spec={**spec.to_dict(), "source_shape": list(shape), "paired": paired},
        found=images.info["found"],
        test_pairs=True,
        notes=[*images.info["notes"], f"sources: {source}{apart}"],
    )


def _over(photos: np.ndarray, seed: int) -> Callable[[np.ndarray, str, int], np.ndarray]:
    """Images over photographs: |photograph - image| of each colour, as MNIST-M is made.

    Ganin et al. 2016, arXiv:1505.07818, section 5.2.4.
    """

    def made(x: np.ndarray, split: str, first: int) -> np.ndarray:
        draws = (generator("background", seed, split, first + i) for i in range(len(x)))
        chosen = [int(draw.integers(len(photos))) for draw in draws]
        return np.abs(photos[chosen].astype(np.int16) - x).astype(np.uint8)

    return made
