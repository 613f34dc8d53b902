"""Images of other than three bands: the values of the file by one scale, or refused with what it holds."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from convnext.data.bands import decode_bands, greatest
from convnext.data.decode import BadImage, decode

RNG = np.random.default_rng(0)


def array_file(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def tiff_file(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", **options)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read(data: bytes, bands: int, white: float = 0.0) -> np.ndarray:
    decoded = decode_bands(data, name="x", max_pixels=10_000, bands=bands, white=white)
    assert decoded.is_contiguous()
    return decoded.numpy()


SEVEN = RNG.integers(0, 10_000, (6, 9, 7)).astype(np.uint16)


@pytest.mark.parametrize(
    "data",
    [
        tiff_file(SEVEN, planarconfig="contig"),
        tiff_file(np.ascontiguousarray(np.moveaxis(SEVEN, 2, 0)), planarconfig="separate"),
        array_file(SEVEN),
        array_file(np.moveaxis(SEVEN, 2, 0)),
    ],
    ids=["contig", "planes", "HWC", "CHW"],
)
def test_seven_bands_by_one_scale(data):
    expected = np.rint(np.clip(np.moveaxis(SEVEN, 2, 0) / 8000, 0, 1) * 255)
    np.testing.assert_array_equal(read(data, 7, white=8000.0), expected)
    np.testing.assert_array_equal(read(data, 7), np.rint(np.moveaxis(SEVEN, 2, 0) / 65535 * 255))
    assert greatest(data, name="x", max_pixels=10_000, bands=7) == pytest.approx(np.percentile(SEVEN, 99.9))


def test_floating_point_and_eight_bits():
    unit = RNG.random((5, 4, 8)).astype(np.float32)
    np.testing.assert_array_equal(read(array_file(unit), 8), np.rint(np.moveaxis(unit, 2, 0).astype(float) * 255))
    small = RNG.integers(0, 256, (5, 4, 2), dtype=np.uint8)
    np.testing.assert_array_equal(read(array_file(small), 2, white=9.0), np.moveaxis(small, 2, 0))
    assert greatest(array_file(small), name="x", max_pixels=100, bands=2) == 255


def test_grey_of_any_image():
    colours = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    data = png(Image.fromarray(colours))
    assert np.abs(read(data, 1)[0] - np.asarray(Image.fromarray(colours).convert("L")).astype(int)).max() <= 1
    deep = RNG.integers(0, 4096, (6, 9)).astype(np.uint16)
    np.testing.assert_array_equal(read(tiff_file(deep), 1, white=4095.0)[0], np.rint(deep / 4095 * 255))


def test_four_bands_are_kept_as_they_are():
    four = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
    np.testing.assert_array_equal(read(png(Image.fromarray(four, "RGBA")), 4), np.moveaxis(four, 2, 0))
    with pytest.raises(BadImage, match=r"it has 3 bands, not 4 \(--loader.bands of `convnext train`\)"):
        read(png(Image.fromarray(four[..., :3].copy())), 4)


def test_three_is_what_decode_gives():
    data = png(Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)))
    np.testing.assert_array_equal(read(data, 3), decode(data, name="x", max_pixels=100).numpy())


@pytest.mark.parametrize(
    ("data", "bands", "says"),
    [
        (array_file(SEVEN), 5, "where 5|\\(5, H, W\\)"),
        (tiff_file(SEVEN, planarconfig="contig"), 5, "7 bands|asked for|not an image"),
        (array_file(np.zeros((4, 4), dtype="U3")), 1, "numbers are accepted"),
        (array_file(np.full((4, 4, 2), np.nan)), 2, "not finite"),
        (array_file(np.full((4, 4, 2), -1.0)), 2, "below 0"),
        (array_file(np.zeros((5, 4, 5))), 5, "cannot be told"),
        (array_file(np.zeros((200, 200, 2))), 2, "more values than the limit"),
        (b"\x93NUMPY\x01\x00 damaged", 2, "damaged"),
        (b"", 2, "empty"),
    ],
)
def test_what_is_refused(data, bands, says):
    with pytest.raises(BadImage, match=says):
        read(data, bands)


def test_pickles_in_arrays_are_not_loaded():
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("it ran",))

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1, 1, 2)})
    with pytest.raises(BadImage, match="numbers are accepted"):
        read(buffer.getvalue() + pickle.dumps(Evil()), 2)
