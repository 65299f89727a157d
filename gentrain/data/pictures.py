"""Images that a user names on the command line, made into what a model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentrain.contracts import DataSpec
from gentrain.data.archive import is_image, open_archive
from gentrain.data.decoding import BadImage, decode_image
from gentrain.errors import UserError

#: Images that are taken from a folder at most.
MOST = 1024


def read_images(path: Path, spec: DataSpec) -> Tensor:
    """An image file, or every image of a folder or zip in the order of their names.

    Resized to cover the model's size and cropped from the centre, grey or colour as the model is, and
    8-bit pixels rounded to the nearest of its levels.

    Args:
        path: a file or a folder.
        spec: of the model's images.

    Returns:
        uint8 [B, C, H, W] in 0 .. levels-1.

    Raises:
        UserError: nothing there, not an image, or a model of neither grey nor colour images.
    """
    channels, height, width = spec.shape
    if channels not in (1, 3):
        raise UserError(f"the model's images have {channels} channels; image files have 1 or 3")
    contents: dict[str, bytes] = {}
    if path.is_file() and path.suffix.lower() != ".zip":
        contents[str(path)] = path.read_bytes()
    else:
        with open_archive(path) as archive:
            files = [file for file in archive.files if is_image(file.name)]
            if not files:
                raise UserError(f"{path} holds no image")
            if len(files) > MOST:
                raise UserError(f"{path} holds {len(files)} images; at most {MOST} are taken")
            contents = {archive.path(file.name): archive.read(file.name) for file in files}
    arrays = []
    for name, content in contents.items():
        try:
            arrays.append(decode_image(content, (height, width), channels))
        except BadImage as error:
            raise UserError(f"{name} cannot be read: {error}") from error
    pixels = np.stack(arrays).astype(np.float32) * ((spec.levels - 1) / 255)
    return torch.from_numpy(np.rint(pixels).astype(np.uint8))
