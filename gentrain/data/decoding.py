"""From the bytes of an image file to uint8 [C, H, W], whatever kind of image it holds.

What Pillow can convert faithfully is converted: palette, CMYK and the like to RGB, transparency
composited onto white, 16-bit grey scaled to 8 bits (16-bit colour by Pillow, which keeps the high
byte), EXIF orientation applied; colour profiles are not. Of an animation the first frame is taken.
A JPEG of more pixels than Pillow's limit is reduced while it is decoded, where a size is asked for.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile, jpeg_factory
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

#: Endings of the files that count as images, in lower case.
EXTENSIONS = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp"}
)
# Only these parsers see the bytes, whatever a file calls itself (Pillow has one that runs Ghostscript).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_GREY = frozenset({"1", "L", "LA", "La"})
_GREY_ALPHA_16 = "LA;16B"  # how Pillow names the samples of such a PNG, which it opens as RGBA
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Metadata of a PNG that may say which side is up.
_UPRIGHT = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")

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
    return decode_with_shape(content, size, channels)[0]


def decode_with_shape(
    content: bytes, size: tuple[int, int] | None, channels: int | None
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """As `decode_image`, and the (C, H, W) that the file's image has by itself."""
    if not content:
        raise BadImage("the file is empty")
    try:
        try:
            array, shape = _decode(content, size, channels)
        except ValueError:
            # Pillow unpacks little text, and a small colour profile: the picture may be whole all the same.
            if not content.startswith(_PNG):
                raise
            array, shape = _decode(_without_metadata(content), size, channels)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"it is not an image of a known format; it starts with {content[:12]!r}") from error
    except Exception as error:  # Pillow's parsers raise nearly every kind on broken input
        raise BadImage(str(error) or type(error).__name__) from error
    return (array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))), shape


def _decode(
    content: bytes, size: tuple[int, int] | None, channels: int | None
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """uint8 [H, W] or [H, W, 3], and the file's (C, H, W)."""
    with _open(content) as image:
        width, height = image.size
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            _reduce(image, content, limit, size)
        reduced, colours = image.size, 1 if _is_grey(image) else 3
        converted = _convert(image, channels)
        if converted.size != reduced:  # turned by its EXIF orientation
            width, height = height, width
        if size is not None:
            converted = ImageOps.fit(converted, (size[1], size[0]), method=Image.Resampling.BICUBIC)
        return np.array(converted), (colours, height, width)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8 [C, H, W] of 1 or 3 channels, as `decode_image` brings it to `size`, (H, W)."""
    whole = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    fitted = np.array(ImageOps.fit(whole, (size[1], size[0]), method=Image.Resampling.BICUBIC))
    return fitted[None] if fitted.ndim == 2 else fitted.transpose(2, 0, 1)


def _open(content: bytes) -> ImageFile.ImageFile:
    if content.startswith(_JPEG):
        # As Image.open does it, which refuses sizes that can be reduced.
        return jpeg_factory(io.BytesIO(content))
    return Image.open(io.BytesIO(content), formats=_FORMATS)


def _reduce(image: ImageFile.ImageFile, content: bytes, limit: int, size: tuple[int, int] | None) -> None:
    """Have an image of more than `limit` pixels decoded to at most that many, by the least factor.

    Raises:
        BadImage: it cannot be reduced, or its full size is asked for.
    """
    problem = f"{image.width}x{image.height} pixels; at most {limit:,} are decoded"
    if not isinstance(image, JpegImageFile) or not _in_one_scan(content):
        raise BadImage(problem)
    if size is None:
        raise BadImage(f"{problem}, or a JPEG with dataset.image_size=PIXELS, which reduces it")
    for factor in (2, 4, 8):
        width, height = max(1, image.width // factor), max(1, image.height // factor)
        if (width + 1) * (height + 1) <= limit:
            image.draft(None, (width, height))
            return
    raise BadImage(problem)


def _in_one_scan(content: bytes) -> bool:
    """Whether a JPEG is decoded row by row: of any other libjpeg holds all coefficients, however reduced."""
    stream = io.BytesIO(content)
    image = JpegImageFile(stream)
    # What was read last is the header of the first scan: its length, how many components it has, ...
    length = 6 + 2 * image.layers
    start = stream.tell() - length
    return "progressive" not in image.info and content[start : start + 3] == bytes([0, length, image.layers])


def _without_metadata(content: bytes) -> bytes:
    """A PNG without the chunks that its pixels do not need."""
    kept, start = [_PNG], len(_PNG)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")  # length, name, data, checksum
        name = content[start + 4 : start + 8]
        if name[:1].isupper() or name in (b"tRNS", b"eXIf") or content[start + 8 : end].startswith(_UPRIGHT):
            kept.append(content[start:end])
        start = end
    return b"".join(kept)


def _convert(image: ImageFile.ImageFile, channels: int | None) -> Image.Image:
    """To L or RGB, upright."""
    grey = _is_grey(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        upright = _from_16_bit(upright, image)
    elif upright.mode == "F":
        raise BadImage("pixels are floating point, their range is unknown; convert it to 8 bits")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if channels is None:
        channels = 1 if grey else 3
    return upright.convert("L" if channels == 1 else "RGB")


def _is_grey(image: ImageFile.ImageFile) -> bool:
    tiles = image.tile  # of a file that is not loaded yet
    return image.mode in _GREY or image.mode.startswith("I") or any(t.args == _GREY_ALPHA_16 for t in tiles)


def _from_16_bit(upright: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """Grey of more than 8 bits to L; `image` is the file it comes from."""
    values = np.array(upright).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    bits, inverted = 16, False
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0]
        inverted = image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    white = (1 << min(bits, 16)) - 1
    if low < 0 or high > white:
        raise BadImage(f"pixels from {low} to {high}, not 0 to {white}; convert it to 8 bits")
    if bits > 16 and 0 < high < 256:
        raise BadImage(
            f"{bits}-bit pixels from {low} to {high}: white may be 255 or 65535; convert it to 8 bits"
        )
    scaled = (2 * 255 * values + white) // (2 * white)
    if inverted:
        scaled = 255 - scaled
    # Of a grey PNG one value may be transparent; what is composited onto white is white.
    scaled[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(scaled.astype(np.uint8))
