"""decode: every kind of file to the pixels people would see, or BadImage; nothing else, ever."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import random
import struct
import tarfile
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convnext.data import decode as module
from convnext.data.decode import IMAGE_SUFFIXES, BadImage, decode

LIMIT = 100_000_000


def read(data: bytes, limit: int = LIMIT) -> np.ndarray:
    """Decoded, with what every decoded image must be; as (H, W, 3)."""
    result = decode(data, name="x", max_pixels=limit)
    assert result.dtype == torch.uint8
    assert result.ndim == 3
    assert result.shape[0] == 3
    assert result.is_contiguous()
    return result.permute(1, 2, 0).numpy()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand: for what Pillow does not write, and for lies in the header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def both(monkeypatch):
    """Decodes with torchcodec and with Pillow alone, and says that the pixels are the same."""
    decoder = module._jpeg_decoder()
    if decoder is None:
        pytest.skip("torchcodec is not installed")

    def check(data: bytes, used: bool = True) -> np.ndarray | None:
        results = []
        for choice in (decoder, None):
            calls: list[int] = []

            def spy(*args, choice=choice, calls=calls, **kwargs):
                calls.append(1)
                assert choice is not None
                return choice(*args, **kwargs)

            monkeypatch.setattr(module, "_jpeg_decoder", lambda spy=spy, choice=choice: choice and spy)
            try:
                results.append(read(data))
            except BadImage:
                results.append(None)
            assert len(calls) == (1 if used and choice else 0)
        fast, slow = results
        assert (fast is None) == (slow is None)
        if fast is not None:
            np.testing.assert_array_equal(fast, slow)
        return fast

    return check


@pytest.mark.parametrize(
    "options", [{}, {"quality": 30, "progressive": True}, {"quality": 95, "subsampling": 0}, {"subsampling": 1}]
)
def test_torchcodec_gives_pillows_pixels(both, picture, encode, options):
    for height, width in ((40, 64), (33, 17), (1, 1), (7, 8)):
        data = encode(picture(height, width), "JPEG", **options)
        np.testing.assert_array_equal(both(data), np.asarray(Image.open(io.BytesIO(data))))


def test_torchcodec_gives_pillows_pixels_in_grey_and_leaves_cmyk_to_pillow(both, picture, encode):
    image = Image.fromarray(picture(20, 30))
    grey = both(encode(image.convert("L"), "JPEG"))
    assert (grey[:, :, 0] == grey[:, :, 2]).all()
    phone = both(encode(image, "MPO", save_all=True, append_images=[image.rotate(180)]))  # a phone's two images in one
    np.testing.assert_array_equal(phone, read(encode(image, "JPEG")))
    cmyk = both(encode(image.convert("CMYK"), "JPEG", quality=95), used=False)
    assert np.abs(cmyk.astype(int) - np.asarray(image)).mean() < 12  # and not its negative


UPRIGHT = {  # what a viewer does for each EXIF orientation, on (H, W, 3)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(both, picture, encode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = picture(10, 16)
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        np.testing.assert_array_equal(read(encode(plain, format, exif=exif, **options)), UPRIGHT[orientation](plain))
    jpeg = encode(plain, "JPEG")
    turned = both(encode(plain, "JPEG", exif=exif))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](read(jpeg)))


def test_damaged_exif_is_no_damaged_image(picture, encode):
    data = encode(picture(8, 8), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(read(data), picture(8, 8))


@pytest.mark.parametrize(
    ("format", "mode"),
    [(f, m) for f in ("PNG", "BMP", "TIFF", "PPM", "GIF") for m in ("1", "L", "P", "RGB") if (f, m) != ("PPM", "P")],
)
def test_plain_modes(encode, format, mode):
    steps = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((3, 4), np.uint8))
    image = Image.fromarray(steps).convert("RGB")
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    np.testing.assert_array_equal(read(encode(image, format)), np.repeat(steps[:, :, None], 3, 2))


def test_transparency_shows_white(encode):
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 128], [0, 0, 0, 0]]], np.uint8)
    expected = [[[255, 0, 0], [255, 127, 127], [255, 255, 255]]]
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        np.testing.assert_array_equal(read(encode(Image.fromarray(pixels), format, **options)), expected)
    grey = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8))
    assert grey.mode == "LA"
    np.testing.assert_array_equal(read(encode(grey, "PNG")), [[[10] * 3, [255] * 3]])


def test_transparent_colours_of_palettes_and_keys_show_white(encode):
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 200, 100, 50])
    palette.putdata([0, 1])
    for format in ("PNG", "GIF"):
        np.testing.assert_array_equal(read(encode(palette, format, transparency=1)), [[[9, 8, 7], [255] * 3]])
    half = encode(palette, "PNG", transparency=bytes([255, 51]))
    np.testing.assert_array_equal(read(half), [[[9, 8, 7], [244, 224, 214]]])
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    np.testing.assert_array_equal(read(encode(rgb, "PNG", transparency=(1, 2, 3))), [[[255] * 3, [4, 5, 6]]])


def test_sixteen_bits_are_scaled_not_clipped(encode):
    values = np.array([[0, 100 * 257, 128, 129, 65535]], np.uint16)
    expected = np.array([[0, 100, 0, 1, 255]])  # 128 / 257 rounds down, 129 / 257 up
    for data in (
        encode(Image.fromarray(values), "PNG"),
        encode(Image.fromarray(values), "TIFF"),
        encode(Image.frombytes("I;16B", (5, 1), values.astype(">u2").tobytes()), "TIFF"),
        encode(Image.fromarray(values.astype(np.int32)), "TIFF"),
    ):
        np.testing.assert_array_equal(read(data)[:, :, 1], expected)


def test_sixteen_bit_colour():
    rows = b"\0" + struct.pack(">6H", 0, 100 * 257, 65535, 30000, 256, 255)
    np.testing.assert_allclose(read(png(2, 1, 16, 2, rows)), [[[0, 100, 255], [117, 1, 1]]], atol=1)


def test_twelve_bit_tiff_uses_its_own_range():
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHIHxx", tag, 3, 1, value) for tag, value in tags)
    pixels = bytes([0xFF, 0xF8, 0x00])  # 4095 and 2048
    data = b"II*\0" + struct.pack("<I", 12) + pixels + b"\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    np.testing.assert_array_equal(read(data)[0, :, 0], [255, 128])


def test_floating_point_and_wide_integers(encode):
    def grey(values: list[float], kind: type) -> list[int]:
        return read(encode(Image.fromarray(np.array([values], kind)), "TIFF"))[0, :, 0].tolist()

    assert grey([0.0, 0.5, 1.0], np.float32) == [0, 128, 255]
    assert grey([-2.0, 0.0, 2.0], np.float32) == [0, 128, 255]
    assert grey([0, 1 << 20, 1 << 21], np.int32) == [0, 128, 255]
    assert grey([0, 100, 255], np.int32) == [0, 100, 255]  # 8 bits that a program wrote as 32
    assert read(b"P5 2 1 65535\n\x00\x80\x64\x64")[0, :, 0].tolist() == [0, 100]  # 16 bits, however dark
    assert grey([7.5, 7.5], np.float32) == [0, 0]
    with pytest.raises(BadImage, match="finite"):
        grey([0.0, float("nan")], np.float32)


@pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_first_frame_of_an_animation(picture, encode, format, options):
    first = np.full((6, 6, 3), (200, 30, 30), np.uint8)
    second = Image.fromarray(np.full((6, 6, 3), (0, 0, 250), np.uint8))
    data = encode(first, format, save_all=True, append_images=[second], duration=50, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 2
    np.testing.assert_array_equal(read(data), first)


def test_bombs_are_refused_by_their_header(encode):
    lie = png(30_000, 30_000, 8, 2, b"")  # says 900 million pixels, has none
    bomb = png(12_000, 12_000, 1, 0, bytes(12_000 * 1501))  # a real one: 144 million pixels in 20 KB
    assert len(bomb) < 40_000
    bmp = bytearray(encode(np.zeros((2, 2, 3), np.uint8), "BMP"))
    bmp[18:26] = struct.pack("<ii", 20_000, 20_000)
    gif = bytearray(encode(np.zeros((2, 2, 3), np.uint8), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    for data in (lie, bomb, bytes(bmp), bytes(gif)):
        with pytest.raises(BadImage, match="pixels"):
            read(data)
    with pytest.raises(BadImage, match=r"4 x 3 pixels, more than the limit of 11 \(--loader.max-pixels in training\)"):
        read(encode(np.zeros((3, 4, 3), np.uint8), "PNG"), limit=11)
    assert read(encode(np.zeros((3, 4, 3), np.uint8), "PNG"), limit=12).shape == (3, 4, 3)


def test_more_data_than_the_header_says_is_not_unpacked():
    small = png(2, 1, 8, 2, b"\0" + bytes([1, 2, 3, 4, 5, 6]) + bytes(60_000_000))
    np.testing.assert_array_equal(read(small), [[[1, 2, 3], [4, 5, 6]]])


def test_what_is_no_image():
    for data, reason in (
        (b"", "empty"),
        (b"<!DOCTYPE html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not an image"),
    ):
        with pytest.raises(BadImage, match=reason):
            read(data)


def test_a_bad_image_survives_pickling():
    error = pickle.loads(pickle.dumps(BadImage("cat/1.jpg", "cut short")))  # noqa: S301 - our own
    assert (error.name, error.reason, str(error)) == ("cat/1.jpg", "cut short", "cat/1.jpg: cut short")


def samples() -> dict[str, bytes]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3)).astype(np.uint8))
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "jpeg": ("JPEG", {}),
        "progressive": ("JPEG", {"progressive": True}),
        "png": ("PNG", {}),
        "gif": ("GIF", {"save_all": True, "append_images": [image.rotate(90)]}),
        "webp": ("WEBP", {}),
        "tiff": ("TIFF", {"compression": "tiff_lzw"}),
        "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
        "bmp": ("BMP", {}),
        "ppm": ("PPM", {}),
    }
    result = {}
    for name, (format, options) in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        result[name] = buffer.getvalue()
    return result


SAMPLES = samples()


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_cut_in_the_middle_is_bad(kind):
    assert read(SAMPLES[kind]).shape == (24, 20, 3)
    with pytest.raises(BadImage):
        read(SAMPLES[kind][: len(SAMPLES[kind]) // 2])


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 2**32), st.integers(0, 6), st.booleans(), st.booleans())
def test_damage_gives_an_image_or_bad_image(kind, seed, flips, cut, header):
    """Bits flipped here and there (in the header too), the end gone: a tensor or BadImage comes out, and no warning."""
    chance, data = random.Random(seed), bytearray(SAMPLES[kind])
    for _ in range(flips):
        data[chance.randrange(min(len(data), 60) if header else len(data))] ^= 1 << chance.randrange(8)
    if cut:
        data = data[: chance.randrange(len(data))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(BadImage):
            read(bytes(data), limit=5_000_000)


def test_damaged_jpegs_fare_the_same_on_both_paths(both):
    chance = random.Random(5)
    for _ in range(60):
        data = bytearray(SAMPLES["jpeg"])
        for _ in range(3):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            plain = Image.open(io.BytesIO(data)).mode == "RGB" and len(data) < LIMIT
        except Exception:  # noqa: BLE001 - whatever Pillow raises
            continue
        if plain and np.prod(Image.open(io.BytesIO(data)).size) < 1_000_000:
            both(bytes(data))


@pytest.mark.data
def test_real_photos_as_pillow_reads_them(shared_data, both):
    with tarfile.open(shared_data / "imagenet-sample" / "imagenet-sample-288.tar") as archive:
        members = [member for member in itertools.islice(archive, 200) if member.isfile()]
        for member in members[::20]:
            data = archive.extractfile(member).read()  # type: ignore[union-attr]
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            np.testing.assert_array_equal(both(data), expected)


def test_avif_where_pillow_reads_it(picture):
    if ".avif" not in IMAGE_SUFFIXES:
        pytest.skip("this Pillow is built without AVIF")
    buffer = io.BytesIO()
    Image.fromarray(picture(32, 48)).save(buffer, "AVIF", quality=100, subsampling="4:4:4")
    decoded = decode(buffer.getvalue(), name="x.avif", max_pixels=LIMIT).permute(1, 2, 0).numpy()
    assert np.abs(decoded.astype(int) - picture(32, 48)).mean() < 4
    with pytest.raises(BadImage, match="more than the limit"):
        decode(buffer.getvalue(), name="x.avif", max_pixels=100)


def test_heic_where_pillow_heif_is_installed(picture):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(picture(64, 96))).save(buffer, quality=-1, chroma=444)
    decoded = decode(buffer.getvalue(), name="x.heic", max_pixels=LIMIT).permute(1, 2, 0).numpy()
    assert np.abs(decoded.astype(int) - picture(64, 96)).mean() < 4
