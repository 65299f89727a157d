"""Latents in TensorBoard's projector: the files that its Projector tab reads, in a run folder.

    projector_config.pbtxt    names the others, relative to itself
    projector/tensors.tsv     a row of latents per image
    projector/metadata.tsv    a row of labels or attributes per image, by which points are coloured
    projector/sprite.png      the images themselves, in a square of tiles, row by row

The format is TensorBoard's, the limits below those of its page (tensorboard/plugins/projector). Not by
SummaryWriter.add_embedding: it leaves an event file more in the folder at every call, fails on images that
are taller than wide, and needs 5 GB for the largest sprite.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional

from gentrain.contracts import Batch, DataSpec
from gentrain.files import replacing, unwritable
from gentrain.images import save_png, to_display

#: Points that the page loads; the rest it leaves out.
MOST_POINTS = 100_000
#: Pixels of a sprite's side.
LARGEST_SPRITE = 8192
#: Different labels that are coloured apart. More are coloured where they are numbers, along a gradient.
MOST_COLOURS = 50

CONFIG = "projector_config.pbtxt"


def save_projector(folder: Path, name: str, z: Tensor, images: Batch, spec: DataSpec) -> list[str]:
    """Write the files of one set of points in place of those of the last; each whole or not at all.

    Args:
        folder: the run folder.
        name: what the page calls the points; no character that a URL would need quoted.
        z: finite latents, [N, D].
        images: all N, on the CPU, with what is known of them.
        spec: what they are.

    Returns:
        What the reader should know, a line each.

    Raises:
        UserError: the folder can never be written.
        Fault: the disk is full, or failed.
    """
    # At the top it would cost every command a second.
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    notes = []
    if len(z) > MOST_POINTS:
        notes.append(f"TensorBoard shows {MOST_POINTS:,} points at most: the first of {len(z):,} are kept")
        z, images = z[:MOST_POINTS], images.map(lambda part: part[:MOST_POINTS])
    place = folder / "projector"
    rows = metadata(images, spec)
    picture, side = sprite(to_display(images.x, spec.levels))
    if side < max(spec.shape[1:]):
        notes.append(f"the images are shown at {side}x{side} pixels: TensorBoard takes no larger sprite")
    if not rows:
        notes.append("without labels the points are all of one colour")
    elif images.label is not None and len(images.label.unique()) > MOST_COLOURS:
        notes.append(f"TensorBoard colours at most {MOST_COLOURS} labels: colour by number, along a gradient")

    config = ProjectorConfig()
    points = config.embeddings.add(tensor_name=name, tensor_path="projector/tensors.tsv")
    points.tensor_shape.extend(z.shape)
    points.sprite.image_path = "projector/sprite.png"
    points.sprite.single_image_dim.extend([side, side])
    if rows:
        points.metadata_path = "projector/metadata.tsv"
    try:
        # Until the last file is there the page shows nothing, rather than points with another's labels.
        (folder / CONFIG).unlink(missing_ok=True)
        with replacing(place / "tensors.tsv") as temporary:
            np.savetxt(temporary, z.numpy(), fmt="%.9g", delimiter="\t")  # all of a float32
        if rows:
            with replacing(place / "metadata.tsv") as temporary:
                # The page reads UTF-8: a name that is none is shown escaped.
                temporary.write_text("\n".join(rows) + "\n", encoding="utf-8", errors="backslashreplace")
        else:
            (place / "metadata.tsv").unlink(missing_ok=True)
        save_png(picture, place / "sprite.png")
        with replacing(folder / CONFIG) as temporary:
            temporary.write_text(text_format.MessageToString(config), encoding="utf-8")
    except OSError as error:
        raise unwritable(f"cannot write to {place}", error) from error
    return notes


def metadata(images: Batch, spec: DataSpec) -> list[str]:
    """The lines of metadata.tsv: labels by name, attributes as 0 and 1; none where nothing is known.

    Several columns stand below their names, a single one does not: that is how TensorBoard tells.
    """
    columns: dict[str, list[str]] = {}
    if images.label is not None:
        numbers = list(map(str, images.label.tolist()))
        names = [clean(name) for name in spec.label_names or ()]
        columns["label"] = [names[int(i)] if int(i) < len(names) else i for i in numbers]
        if len(set(numbers)) > MOST_COLOURS:
            columns["number"] = numbers
    if images.attributes is not None:
        for name, values in zip(spec.attributes or (), images.attributes.T.tolist(), strict=True):
            columns[clean(name)] = [str(int(value)) for value in values]
    rows = ["\t".join(row) for row in zip(*columns.values(), strict=True)]
    return ["\t".join(columns), *rows] if len(columns) > 1 else rows


def clean(name: str) -> str:
    """`name` without the characters that end a row or a column; an empty row would be skipped."""
    return " ".join(name.split()) or "(no name)"


def sprite(shown: Tensor) -> tuple[Tensor, int]:
    """Square tiles side by side, as many rows as columns: the page divides by the wrong one of the two.

    Args:
        shown: uint8 [N, C, H, W], C 1 or 3; made smaller where the sprite would be too large, and
            put on black where they are not square.

    Returns:
        uint8 [C, S, S], and the pixels of a tile's side.
    """
    count, channels, height, width = shown.shape
    columns = math.ceil(math.sqrt(count))
    full = max(height, width)
    side = min(full, LARGEST_SPRITE // columns)
    picture = shown.new_zeros(channels, columns * side, columns * side)
    for row in range(math.ceil(count / columns)):
        tiles = shown[row * columns : (row + 1) * columns]  # [n, C, H, W]
        above, left = (full - height) // 2, (full - width) // 2
        tiles = functional.pad(tiles, (left, full - width - left, above, full - height - above))
        if side < full:
            tiles = functional.interpolate(tiles.float(), (side, side), mode="area").round().to(shown.dtype)
        strip = tiles.permute(1, 2, 0, 3).flatten(2)  # [C, side, n * side]
        picture[:, row * side : (row + 1) * side, : strip.shape[2]] = strip
    return picture, side
