from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gentrain.data.decoding import BadImage, decode_image, decode_with_shape


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colour() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8))


TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be turned by 90 degrees clockwise


def test_colour_and_grey() -> None:
    image = decode_image(saved(colour()), None, None)
    assert image.dtype == np.uint8
    assert (image == np.array(colour()).transpose(2, 0, 1)).all()
    grey = colour().convert("L")
    assert (decode_image(saved(grey), None, None) == np.array(grey)[None]).all()
    assert (decode_image(saved(colour()), None, 1) == np.array(grey)[None]).all()
    assert (decode_image(saved(grey), None, 3) == np.array(grey)).all()
    assert decode_image(saved(grey), None, 3).shape == (3, 4, 6)


def test_black_and_white_becomes_0_and_255() -> None:
    image = decode_image(saved(Image.new("1", (2, 2), 1)), None, None)
    assert image.tolist() == [[[255, 255], [255, 255]]]


def test_palette() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        image = decode_image(saved(palette, kind), None, None)
        assert image[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    # Palette entry 1 is transparent: white shows through.
    image = decode_image(saved(palette, "PNG", transparency=1), None, None)
    assert image[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]


def test_alpha_is_composited_onto_white() -> None:
    image = Image.new("RGBA", (3, 1), (100, 0, 200, 255))
    image.putpixel((1, 0), (100, 0, 200, 0))
    image.putpixel((2, 0), (100, 0, 200, 51))  # a fifth
    got = decode_image(saved(image), None, None)[:, 0].T.tolist()
    assert got == [[100, 0, 200], [255, 255, 255], [224, 204, 244]]
    grey = Image.new("LA", (1, 1), (0, 51))
    assert decode_image(saved(grey), None, None).tolist() == [[[204]]]


def test_cmyk() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = decode_image(saved(red, "JPEG", quality=100), None, None)
    assert np.abs(image[:, 4, 4].astype(int) - [255, 0, 0]).max() <= 3


def test_16_bits_are_scaled_to_8() -> None:
    values = np.array([[0, 128, 129, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        image = decode_image(saved(Image.fromarray(values), kind), None, None)
        assert image.tolist() == [np.round(values / 257).astype(int).tolist()]


def test_unknown_range_is_refused() -> None:
    floats = saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    with pytest.raises(BadImage, match="floating point"):
        decode_image(floats, None, None)
    wide = saved(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF")
    with pytest.raises(BadImage, match="70000"):
        decode_image(wide, None, None)


def test_exif_orientation_is_applied() -> None:
    for kind in ("PNG", "TIFF"):
        turned = decode_image(saved(colour(), kind, exif=TURNED), None, None)
        assert (turned == np.rot90(np.array(colour()), -1).transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (saved(colour()), (3, 4, 6)),
        (saved(colour().convert("L")), (1, 4, 6)),
        (saved(colour().convert("LA")), (1, 4, 6)),
        (saved(colour().convert("P")), (3, 4, 6)),
        (saved(Image.fromarray(np.zeros((5, 3), np.uint16))), (1, 5, 3)),
        (saved(colour(), exif=TURNED), (3, 6, 4)),
        (saved(colour().resize((600, 400)), "JPEG"), (3, 400, 600)),
    ],
)
def test_the_shape_that_a_file_has_by_itself(content: bytes, shape: tuple[int, int, int]) -> None:
    """Whatever is asked of it; a JPEG of too many pixels is decoded smaller, and told of as it is."""
    assert decode_with_shape(content, None, None)[1] == shape
    for channels in (1, 3):
        array, found = decode_with_shape(content, (2, 2), channels)
        assert (array.shape, found) == ((channels, 2, 2), shape)


def test_a_reduced_jpeg_has_its_own_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(colour().resize((600, 400)), "JPEG", exif=TURNED)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    assert decode_with_shape(content, (8, 8), None)[1] == (3, 600, 400)


def test_resize_crops_the_centre() -> None:
    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, 20:40] = 255
    image = decode_image(saved(Image.fromarray(stripes)), (20, 20), None)
    assert (image == 255).all()
    assert decode_image(saved(colour()), (3, 5), None).shape == (3, 3, 5)


def test_resize_is_antialiased() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    image = decode_image(saved(Image.fromarray(board.astype(np.uint8))), (8, 8), None)
    assert np.abs(image[:, 2:-2, 2:-2].astype(int) - 127).max() < 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not an image of a known format"),
        (saved(colour())[:60], "."),
        (saved(colour(), "JPEG")[:-40], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
    ],
)
def test_broken_files(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode_image(content, None, None)


def test_flipped_bits_are_found_or_harmless() -> None:
    """Whatever a damaged file does in Pillow, only BadImage comes out."""
    whole = saved(colour())
    bad = 0
    for position in range(8, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        try:
            decode_image(bytes(damaged), None, None)
        except BadImage:
            bad += 1
    assert bad > len(whole) / 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("factor", [1.1, 3])
def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    side = int((1000 * factor) ** 0.5)
    with pytest.raises(BadImage, match="pixels"):
        decode_image(saved(Image.new("L", (side, side + 3))), (4, 4), None)


def text(kind: str) -> bytes:
    """A PNG with 3 MB of metadata, which image generators and scanners write."""
    info = PngImagePlugin.PngInfo()
    if kind == "zTXt":
        info.add_text("workflow", "x" * 3_000_000, zip=True)
    elif kind == "iTXt":
        info.add_itxt("xmp", "x" * 3_000_000, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = bytes(3_000_000) if kind == "iCCP" else None
    return saved(colour(), pnginfo=info, icc_profile=profile, exif=exif)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_large_metadata_of_a_png_does_not_matter(kind: str) -> None:
    content = text(kind)
    assert kind.encode() in content
    assert (decode_image(content, None, None) == np.rot90(np.array(colour()), -1).transpose(2, 0, 1)).all()
    with pytest.raises(BadImage):
        decode_image(content[:-30], None, None)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_16_bit_grey_with_transparency() -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    content = saved(Image.fromarray(values), transparency=257)
    assert b"tRNS" in content
    assert decode_image(content, None, None).tolist() == [[[0, 255, 255]]]
    samples = np.array([[0, 257 * 100, 257 * 100], [65535, 65535, 0]], ">u2").T  # grey and alpha
    header = struct.pack(">IIBBBBB", 3, 1, 16, 4, 0, 0, 0)
    body = zlib.compress(b"\0" + samples.tobytes())
    content = content[:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    assert decode_image(content, None, None).tolist() == [[[0, 100, 255]]]


def test_white_of_a_tiff() -> None:
    small = saved(Image.fromarray(np.array([[0, 200]], np.int32)), "TIFF")
    with pytest.raises(BadImage, match="32-bit pixels from 0 to 200: white may be 255 or 65535"):
        decode_image(small, None, None)
    black = saved(Image.fromarray(np.zeros((1, 2), np.int32)), "TIFF")
    assert decode_image(black, None, None).tolist() == [[[0, 0]]]
    large = saved(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF")
    assert decode_image(large, None, None).tolist() == [[[0, 255]]]
    # 0 is white, as scanners write it.
    inverted = saved(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF", tiffinfo={262: 0})
    assert decode_image(inverted, None, None).tolist() == [[[255, 0]]]


def tiff_of_12_bits(values: list[int]) -> bytes:
    """One row of an even number of pixels, two in three bytes."""
    body = b"".join((a << 12 | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True))
    tags = [(256, 3, len(values)), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, len(body))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(body))
    return header + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_12_bits_are_scaled_to_8() -> None:
    image = decode_image(tiff_of_12_bits([0, 4095, 2048, 273]), None, None)
    assert image.tolist() == [[[0, 255, 128, 17]]]


def stripes(height: int, width: int) -> Image.Image:
    """Dark on the left, bright on the right."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[:, width // 2 :] = (220, 180, 140)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("limit", [2000, 700, 100])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_large_jpeg_is_reduced_while_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, limit: int, mode: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(stripes(40, 64).convert(mode), "JPEG", quality=95, exif=exif)
    whole = decode_image(content, (8, 8), None).astype(int)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    loaded: list[int] = []
    monkeypatch.setattr(Image.Image, "transpose", _noting(loaded, Image.Image.transpose))
    reduced = decode_image(content, (8, 8), None)
    assert reduced.shape == whole.shape
    assert np.abs(reduced - whole).mean() < 12
    assert 0 < max(loaded) <= limit
    with pytest.raises(BadImage, match=r"64x40 pixels; at most .*dataset\.image_size=PIXELS"):
        decode_image(content, None, None)


def _noting(sizes: list[int], method: Any) -> Any:
    def noted(self: Image.Image, *arguments: Any) -> Any:
        sizes.append(self.width * self.height)
        return method(self, *arguments)

    return noted


def test_jpeg_that_needs_all_its_memory_however_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    image = stripes(40, 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert decode_image(saved(image, "JPEG"), (8, 8), None).shape == (3, 8, 8)
    progressive = saved(image, "JPEG", progressive=True)
    # Sequential, but one component after the other.
    scans = bytearray(saved(image, "JPEG"))
    at = scans.index(b"\xff\xda\0\x0c\3")
    scans[at : at + 14] = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    for content in (progressive, bytes(scans)):
        with pytest.raises(BadImage, match=r"64x40 pixels; at most 2,000 are decoded$"):
            decode_image(content, (8, 8), None)
