"""TIFFs of scanners, microscopes and satellites: the right values, or refused as what they are."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import tifffile

from convnext.data.decode import BadImage, decode

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
UNIT = RNG.random((6, 9, 3)).astype(np.float32)


def packed(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode(data, name="x.tif", max_pixels=10_000).permute(1, 2, 0).numpy()


def planes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


@pytest.mark.parametrize("values", [COLOURS, DEEP, UNIT, DEEP.astype(np.uint32) << 16], ids=lambda v: str(v.dtype))
def test_planes_are_the_same_image(values):
    whole = pixels(packed(values, photometric="rgb"))
    apart = pixels(packed(planes(values), photometric="rgb", planarconfig="separate"))
    np.testing.assert_array_equal(whole, apart)


def test_colours_of_more_bits_and_floating_point():
    np.testing.assert_array_equal(pixels(packed(DEEP, photometric="rgb")), (DEEP >> 8).astype(np.uint8))
    np.testing.assert_allclose(pixels(packed(UNIT, photometric="rgb")), UNIT * 255, atol=0.5001)
    far = UNIT * 40 - 7
    scaled = (far - far.min()) / (far.max() - far.min()) * 255
    np.testing.assert_allclose(pixels(packed(far, photometric="rgb")), scaled, atol=0.501)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(dtype):
    grey = (COLOURS[..., 0] if dtype == np.uint8 else DEEP[..., 0]).copy()
    top = np.iinfo(dtype).max
    found = pixels(packed(grey, photometric="miniswhite"))
    np.testing.assert_allclose(found[..., 0], 255 - grey.astype(float) * 255 / top, atol=0.51)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int16, np.int8, np.float16, np.float64])
def test_grey_of_any_kind_is_scaled(dtype):
    kind = np.dtype(dtype).kind
    low, high = (-3.0, 9.0) if kind == "f" else (np.iinfo(dtype).min // 2, np.iinfo(dtype).max)
    grey = (low + RNG.random((6, 9)) * (float(high) - low)).astype(dtype)
    wide = grey.astype(np.float64)
    expected = (wide - wide.min()) / (wide.max() - wide.min()) * 255
    np.testing.assert_allclose(pixels(packed(grey, photometric="minisblack"))[..., 1], expected, atol=0.51)


@pytest.mark.parametrize("bands", [2, 4, 5, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_without_a_meaning_are_refused_as_what_they_are(bands, dtype):
    data = packed(RNG.integers(0, 200, (6, 9, bands)).astype(dtype), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadImage, match=f"a TIFF of {bands} bands of {np.dtype(dtype)}: .* Save it as RGB"):
        pixels(data)


def test_a_fourth_band_is_no_alpha_unless_the_file_says_so():
    four = np.concatenate([COLOURS, np.zeros((6, 9, 1), np.uint8)], axis=2)
    infrared = packed(four, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(pixels(infrared), COLOURS)
    clear = packed(four, photometric="rgb", extrasamples=["unassalpha"])
    assert (pixels(clear) == 255).all()  # transparent all over, so white
    floats = packed(four.astype(np.float32) / 255, photometric="rgb", extrasamples=["unassalpha"])
    assert (pixels(floats) == 255).all()


def test_orientation_counts_here_too():
    turned = packed(UNIT, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(pixels(turned), np.rot90(pixels(packed(UNIT, photometric="rgb")), -1))


def test_limits_and_damage():
    data = packed(UNIT, photometric="rgb")
    with pytest.raises(BadImage, match="9 x 6 pixels, more than the limit of 53"):
        decode(data, name="x.tif", max_pixels=53)
    with pytest.raises(BadImage, match="not finite"):
        pixels(packed(np.full((6, 9, 3), np.nan, np.float32), photometric="rgb"))
    for end in range(8, len(data), 7):
        with pytest.raises(BadImage):
            pixels(data[:end])


def test_bombs_are_refused():
    flat = np.zeros((64, 64, 3), np.float32)
    good = packed(flat, photometric="rgb", compression="zlib")
    assert pixels(good).shape == (64, 64, 3)
    page = tifffile.TiffFile(io.BytesIO(good)).pages[0]
    assert isinstance(page, tifffile.TiffPage)
    bomb = zlib.compress(bytes(50 << 20))
    (offset,), (entry,) = page.dataoffsets, [page.tags["StripByteCounts"]]
    data = bytearray(good[:offset] + bomb)
    data[entry.valueoffset : entry.valueoffset + 4] = len(bomb).to_bytes(4, "little")
    with pytest.raises(BadImage, match="unpacks to more than its size"):
        decode(bytes(data), name="x.tif", max_pixels=10_000)
    many = packed(np.zeros((90, 90, 40), np.float32), photometric="rgb", planarconfig="contig")
    with pytest.raises(BadImage, match="MiB of memory"):
        decode(many, name="x.tif", max_pixels=10_000)
