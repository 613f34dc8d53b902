"""What predictors accept as images, and the sentence that everything else gets."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convnext.core.errors import UserError
from convnext.data.decode import decode
from convnext.data.inputs import BadImage, MissingImage, WrongImage, image_name, is_single, iterate, read_image


def opened(file: Path) -> Image.Image:
    """Pillow's image, whose pixels are not read yet."""
    return Image.open(io.BytesIO(file.read_bytes()))


def refused(image, *parts: str, kind: type[UserError] = WrongImage) -> str:
    with pytest.raises(kind) as caught:
        read_image(image)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert isinstance(caught.value, UserError)
    assert message.isprintable()
    return message


# files and bytes


def test_every_kind_gives_the_same_pixels(file, pixels):
    array = pixels.permute(1, 2, 0).numpy()
    read_only = array.copy()
    read_only.flags.writeable = False
    kinds = [
        *(file, str(file), file.read_bytes(), bytearray(file.read_bytes()), memoryview(file.read_bytes())),
        *(opened(file), Image.fromarray(array), Image.fromarray(array).convert("RGBA")),
        *(array, read_only, array[::-1].copy()[::-1], np.asfortranarray(array), array / 255, np.float32(array / 255)),
        *((array / 255).astype(">f8"), (array / np.longdouble(255))),
        *(pixels, pixels.contiguous(), pixels / 255, pixels.double() / 255, (pixels / 255).requires_grad_()),
        *((pixels / 255).half(), np.concatenate([array, np.full((6, 9, 1), 255, np.uint8)], axis=2)),
        torch.cat([pixels, torch.full((1, 6, 9), 255, dtype=torch.uint8)]),
    ]
    for number, kind in enumerate(kinds):
        found = read_image(kind)
        assert found.dtype == torch.uint8, number
        assert found.is_contiguous(), number
        assert torch.equal(found, pixels), number


def test_the_image_is_a_new_one(pixels):
    given = pixels.contiguous()
    read_image(given).zero_()
    grey = given[0].numpy().copy()
    read_image(grey).zero_()
    assert given.any()
    assert grey.any()


def test_grey(pixels):
    grey = pixels[0]
    for kind in (grey, grey[None], grey.numpy(), grey.numpy()[..., None], grey / 255, Image.fromarray(grey.numpy())):
        assert torch.equal(read_image(kind), grey.expand(3, 6, 9))


def test_what_is_transparent_lies_on_white(picture, encode):
    array = np.dstack([picture(6, 9), np.tile(np.arange(0, 252, 28, dtype=np.uint8), (6, 1))])
    want = decode(encode(array, "PNG"), name="x", max_pixels=100)
    for kind in (array, Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1), array / 255):
        assert torch.equal(read_image(kind), want)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "PA", "La", "RGBa"])
def test_every_mode_of_pillow(picture, mode):
    image = Image.fromarray(picture(6, 9))
    if mode in ("PA", "La", "RGBa", "I;16"):
        image = image.convert({"PA": "P", "La": "LA", "RGBa": "RGBA", "I;16": "L"}[mode])
    image = image.convert(mode)
    assert read_image(image).shape == (3, 6, 9)


def test_pillow_images_are_turned_as_their_file_is(tmp_path, picture, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    for format in ("JPEG", "PNG", "TIFF", "WEBP"):
        data = encode(picture(6, 9), format, exif=exif)
        image = Image.open(io.BytesIO(data))
        found = read_image(image)
        assert found.shape == (3, 9, 6), format
        assert torch.equal(read_image(image), found)  # and it is not turned in place
        assert (found.int() - read_image(data).int()).abs().max() < 3


def test_damaged_files_are_bad_images(file):
    (file.parent / "bad.png").write_bytes(file.read_bytes()[:60])
    refused(file.parent / "bad.png", "bad.png: damaged", kind=BadImage)
    refused(opened(file.parent / "bad.png"), "the image: damaged", kind=BadImage)
    refused(b"", "<bytes>: the file is empty", kind=BadImage)
    refused(b"no image", "<bytes>: not an image in a known format", kind=BadImage)
    with Image.open(file) as image:
        pass
    refused(image, kind=BadImage)


def test_files_that_are_not_there(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("dog.png", f"There is no file dog.png (looked for from {tmp_path})", kind=MissingImage)
    assert "looked for" not in refused(tmp_path / "dog.png", f"no file {tmp_path}/dog.png.", kind=MissingImage)
    refused(file / "x.png", "cat.png/x.png cannot be read: Not a directory.", kind=MissingImage)
    refused("", "An empty path", kind=MissingImage)
    refused("a\0b.png", "a?b.png is no path", kind=MissingImage)
    refused("s3://bucket/cat.png", "is not https: save the image", kind=MissingImage)
    refused("x\x1b[2J" * 3, "x?[2J", kind=MissingImage)
    assert len(refused("data:image/png;base64," + "iVBORw0K" * 10_000, "cannot be read", kind=MissingImage)) < 400
    refused(tmp_path, "is a folder: give the path of an image, or a list of them")
    with pytest.raises(FileNotFoundError):
        read_image("dog.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no regular file")
    refused("/dev/zero", "is no regular file")


def test_large_images_are_refused(file, pixels):
    for kind in (file, file.read_bytes(), opened(file), pixels, pixels.permute(1, 2, 0).numpy()):
        assert read_image(kind, max_pixels=54).shape == (3, 6, 9)
        with pytest.raises(UserError, match=r"more .*than the limit of 53"):
            read_image(kind, max_pixels=53)


# arrays and tensors

RAMP = np.linspace(0, 1, 3 * 6 * 9).reshape(6, 9, 3)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (RAMP[None], ["An array (1, 6, 9, 3) of float64 is a batch", "one by one"]),
        (RAMP.transpose(2, 0, 1), ["An array (3, 6, 9)", "Channels come last", "image.transpose(1, 2, 0)"]),
        (RAMP[..., :2], ["An array (6, 9, 2)", "(H, W, 3), (H, W, 4) or (H, W)"]),
        (RAMP[0, 0], ["An array (3)"]),
        (np.zeros(()), ["An array ()"]),
        (np.zeros((0, 5, 3), np.uint8), ["An array (0, 5, 3) of uint8 has no pixels"]),
        (RAMP * 255, ["values of 0 to 255", "looks like 0..255: divide by 255, or make it uint8"]),
        (RAMP * 4 - 2, ["values of -2 to 2", "before its mean is subtracted"]),
        (RAMP * 65535, ["values of 0 to 6.554e+04", "Scale it to 0..1"]),
        (np.where(RAMP > 0.9, np.nan, RAMP), ["not finite"]),
        (np.where(RAMP > 0.9, np.inf, RAMP), ["not finite"]),
        (RAMP.astype(np.int64), ["of int64", "image.astype(numpy.uint8)"]),
        (RAMP.astype(np.uint16), ["of uint16", "divide by 65535"]),
        (RAMP > 0.5, ["of bool", "255 * image"]),
        (RAMP.astype(complex), ["of complex128"]),
        (RAMP.astype(object), ["of object"]),
        (np.array(["x"] * 3).reshape(1, 1, 3), ["is no image"]),
    ],
)
def test_arrays_that_are_no_images(given, parts):
    refused(given, *parts)


IDEAL = torch.linspace(0, 1, 3 * 6 * 9).reshape(3, 6, 9)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (IDEAL[None], ["A tensor (1, 3, 6, 9) of float32 is a batch", "one by one"]),
        (IDEAL.permute(1, 2, 0), ["A tensor (6, 9, 3)", "Channels come first", "image.permute(2, 0, 1)"]),
        (IDEAL[:2], ["A tensor (2, 6, 9)"]),
        (IDEAL[0, 0], ["A tensor (9)"]),
        (torch.zeros(3, 0, 4), ["has no pixels"]),
        (IDEAL * 255, ["looks like 0..255"]),
        (IDEAL - 0.5, ["values of -0.5 to 0.5"]),
        (IDEAL.where(IDEAL < 0.9, float("nan")), ["not finite"]),
        (IDEAL.long(), ["of int64", "image.to(torch.uint8)"]),
        (IDEAL > 0.5, ["of bool"]),
        (IDEAL.to_sparse(), ["is no image"]),
        (IDEAL.to("meta"), ["is no image"]),
    ],
)
def test_tensors_that_are_no_images(given, parts):
    refused(given, *parts)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_every_array_is_an_image_or_refused_in_a_sentence(data):
    shape = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 7]), max_size=5).map(tuple))
    dtype = data.draw(st.sampled_from(["u1", "i1", "u2", "i8", "?", "f2", ">f4", "f8", "c8", "O", "U1", "M8[s]"]))
    array = np.zeros(shape, dtype) if dtype != "f8" else np.full(shape, data.draw(st.floats()))
    given = [array, torch.from_numpy(array)] if dtype in ("u1", "i1", "i8", "?", "f2", "f8", "c8") else [array]
    for one in given:
        try:
            found = read_image(one)
        except WrongImage as error:
            assert str(error).endswith((".", ")"))  # noqa: PT017 - any of them
            continue
        assert (found.dtype, found.shape[0], found.is_contiguous()) == (torch.uint8, 3, True)
        assert one.ndim in (2, 3)


def test_rounding_beyond_the_range_is_no_mistake():
    assert read_image(np.full((2, 2), 1.0005)).max() == 255
    assert read_image(torch.full((3, 2, 2), -0.0005)).max() == 0


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (None, "NoneType is no image: a path, an address"),
        (7, "int is no image"),
        ([[1, 2], [3, 4]], "make an array"),
        ({"image": 1}, "dict is no image"),
        (io.BytesIO(b"x"), "give the bytes: image.read()"),
    ],
)
def test_other_things_are_no_images(given, part):
    refused(given, part)


# several


def test_names(file, pixels):
    with Image.open(file) as image:
        assert image_name(file, 3) == image_name(str(file), 3) == image_name(image, 3) == str(file)
    assert image_name(b"x", 3) == "<bytes>"
    assert image_name(pixels, 3) == image_name(Image.new("RGB", (1, 1)), 3) == "image 3"
    assert image_name(pixels, None) == "the image"
    assert image_name("https://me:secret@host/a.jpg?token=7", 0) == "https://host/a.jpg"
    assert image_name("a\x1b[2J.png", 0) == "a?[2J.png"
    assert image_name("\udcff.png", 0) == "?.png"


def test_one_or_several(file, pixels):
    array = pixels.permute(1, 2, 0).numpy()
    for one in (file, str(file), b"x", opened(file), array, pixels, None, 7, {}, io.BytesIO(), array[0, 0]):
        assert is_single(one)
        (itself,) = iterate(one)
        assert itself is one
    for several in ([file], (file,), (image for image in [file]), array[None], pixels[None], {file}):
        assert not is_single(several)
        assert len(list(iterate(several))) == 1
    assert list(iterate([])) == list(iterate(array[None][:0])) == []


def test_batches_are_their_images(pixels):
    batch = torch.stack([pixels, pixels.flip(2)])
    for several in (batch, batch.permute(0, 2, 3, 1).numpy(), list(batch), batch / 255):
        assert torch.equal(torch.stack([read_image(image) for image in iterate(several)]), batch)


def test_generators_are_asked_one_image_at_a_time():
    asked = []

    def images():
        for name in ("a", "b", "c"):
            asked.append(name)
            yield name

    found = iterate(images())
    assert next(found) == "a"
    assert asked == ["a"]
