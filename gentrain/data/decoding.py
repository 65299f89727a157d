"""From the bytes of an image file to uint8 [C, H, W], whatever kind of image it holds.

What Pillow can convert faithfully is converted: palette, CMYK and the like to RGB, transparency
composited onto white, 16-bit grey scaled to 8 bits (16-bit colour by Pillow, which keeps the high
byte), EXIF orientation applied; colour profiles are not. Of an animation the first frame is taken.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

#: Endings of the files that count as images, in lower case.
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
# Only these parsers see the bytes, whatever a file calls itself (Pillow has one that runs Ghostscript).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_GREY = frozenset({"1", "L", "LA", "La"})


#: Largest side that an image may be resized to, in pixels: more is a typing error, and takes all memory.
MAX_SIDE = 4096


class BadImage(Exception):
    """A file that cannot be decoded; says why in one line."""


def decode_image(content: bytes, size: tuple[int, int] | None, channels: int | None) -> np.ndarray:
    """One image, uint8 [C, H, W], a copy.

    Args:
        content: the bytes of the file.
        size: (H, W) to resize the shorter side to (bicubic, antialiased) and to crop from the centre;
            None to leave the size as it is.
        channels: 1 (luma of ITU-R 601) or 3; None gives 1 for a grey and 3 for a colour image.

    Raises:
        BadImage: empty, broken, not one of the formats, far too large, or of an unknown range.
    """
    if not content:
        raise BadImage("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise BadImage(f"{image.width}x{image.height} pixels; at most {limit:,} are decoded")
            converted = _convert(image, channels)
            if size is not None:
                converted = ImageOps.fit(converted, (size[1], size[0]), method=Image.Resampling.BICUBIC)
            array = np.array(converted)  # [H, W] or [H, W, 3]
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"it is not an image of a known format; it starts with {content[:12]!r}") from error
    except Exception as error:  # Pillow's parsers raise nearly every kind on broken input
        raise BadImage(str(error) or type(error).__name__) from error
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _convert(image: Image.Image, channels: int | None) -> Image.Image:
    """To L or RGB, upright."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        upright = _from_16_bit(upright)
    elif upright.mode == "F":
        raise BadImage("pixels are floating point, their range is unknown; convert it to 8 bits")
    grey = upright.mode in _GREY
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if channels is None:
        channels = 1 if grey else 3
    return upright.convert("L" if channels == 1 else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.array(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage(f"pixels from {values.min()} to {values.max()}, not 0 to 65535; convert it to 8 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
