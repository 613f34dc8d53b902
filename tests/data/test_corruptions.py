"""Corruptions, each against its definition; and what all of them have in common. H W space."""

from __future__ import annotations

import colorsys
import io
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from convnext.core.errors import UserError
from convnext.data.corruptions import blur, noise, weather
from convnext.data.corruptions.apply import Corruption, frost_files
from convnext.data.corruptions.config import CONSTANTS, EXTRA, KINDS, MAIN, SEVERITIES, kinds_of


def picture(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """A smooth image with some texture: uint8 (3, H, W)."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([np.sin(7 * rows + k) * np.cos(5 * columns - k) for k in range(3)])
    return torch.from_numpy((127 + 90 * waves + chance.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8))


def values(seed: int = 0, size: int = 48) -> np.ndarray:
    return picture(size, size, seed).permute(1, 2, 0).numpy() / 255


GREY = np.full((64, 64, 3), 0.5)


# What all have in common


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 48), (9, 7)])
def test_every_kind_keeps_shape_and_type_and_is_a_function_of_the_seed(kind, height, width):
    image = picture(height, width)
    before = image.clone()
    for severity in SEVERITIES:
        corruption = Corruption(kind, severity)
        found = corruption(image, 3)
        assert (found.shape, found.dtype) == (image.shape, torch.uint8)
        np.random.seed(severity)  # noqa: NPY002 - nothing that others draw matters
        torch.manual_seed(severity)
        assert torch.equal(found, pickle.loads(pickle.dumps(corruption))(image, 3))  # noqa: S301 - as workers get it
    assert torch.equal(image, before)


SURE = {
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
    "defocus_blur",
    "zoom_blur",
    "gaussian_blur",
}
"""Kinds without chance."""


@pytest.mark.parametrize("kind", sorted({*KINDS} - SURE))
def test_another_seed_gives_other_pixels(kind):
    image = picture(128, 128)
    assert not torch.equal(Corruption(kind, 3)(image, 0), Corruption(kind, 3)(image, 1))


@pytest.mark.parametrize(
    "kind", sorted({*KINDS} - {"elastic_transform", "saturate", "glass_blur", "snow", "frost", "fog"})
)
def test_severity_grows(kind):
    """Further from the image at each step, on average over images (some kinds of the original do not grow evenly)."""
    images = [picture(96, 96, seed) for seed in range(4)]
    distances = [
        float(np.mean([(Corruption(kind, s)(image, 0).float() - image.float()).square().mean() for image in images]))
        for s in SEVERITIES
    ]
    assert distances[0] < distances[2] < distances[4], distances


def test_names():
    assert (len(MAIN), len(EXTRA), len(KINDS)) == (15, 4, 19)
    assert all(len(CONSTANTS[kind]) == 5 for kind in KINDS)
    assert kinds_of(["main"]) == tuple(MAIN)
    assert kinds_of(["fog", "extra", "fog"]) == ("fog", *EXTRA)
    assert kinds_of(["all"]) == KINDS
    with pytest.raises(UserError, match=r"no corruption 'foggy'\. Did you mean 'fog'"):
        kinds_of(["foggy"])


def test_the_constants_are_those_of_the_facts():
    from pathlib import Path

    yaml = pytest.importorskip("yaml")
    file = Path(__file__).parents[3] / "shared" / "facts" / "robustness.yaml"
    if not file.is_file():
        pytest.skip("the facts (../shared/facts) are not here")
    known = yaml.safe_load(file.read_text())["imagenet_c"]["severities"]
    key = {"zoom_blur": "arange", "brightness": "hsv_v_add"}
    for kind in KINDS:
        row = known[kind][key.get(kind, next(iter(known[kind])))]
        ours = [list(c) if isinstance(c, tuple) else c for c in CONSTANTS[kind]]
        if kind == "zoom_blur":
            row = [entry[1:] for entry in row]
        if kind == "spatter":
            row = [[*entry[:5], bool(entry[5])] for entry in row]
        assert ours == row, kind


# Noise, light, colour


def test_gaussian_noise_by_its_moments():
    found = noise.gaussian_noise(GREY, 0.1, np.random.default_rng(0)) - GREY
    assert abs(found.mean()) < 0.005
    assert found.std() == pytest.approx(0.1, rel=0.03)


def test_shot_noise_is_poisson():
    """Variance is mean over photons: 0.5 / 60."""
    found = noise.shot_noise(GREY, 60, np.random.default_rng(0))
    assert found.mean() == pytest.approx(0.5, abs=0.005)
    assert found.var() == pytest.approx(0.5 / 60, rel=0.05)
    assert np.allclose(found * 60, np.round(found * 60))


def test_impulse_noise_hits_a_share_of_the_values():
    found = noise.impulse_noise(GREY, 0.2, np.random.default_rng(0))
    assert np.mean(found != 0.5) == pytest.approx(0.2, abs=0.01)
    assert np.mean(found == 1) == pytest.approx(0.1, abs=0.01)
    assert set(np.unique(found)) == {0.0, 0.5, 1.0}
    assert (np.ptp((found == 1).sum(axis=-1)) > 0).all()  # each channel by itself


def test_speckle_noise_grows_with_the_value():
    dark, light = (noise.speckle_noise(np.full((64, 64, 3), v), 0.3, np.random.default_rng(0)) for v in (0.2, 0.6))
    assert light.std() / dark.std() == pytest.approx(3.0, rel=1e-6)
    assert dark.std() == pytest.approx(0.06, rel=0.05)


def test_hsv_is_the_standard_librarys():
    chance = np.random.default_rng(0)
    x = np.concatenate(
        [chance.random((20, 1, 3)), [[[0, 0, 0]], [[1, 1, 1]], [[0.4, 0.4, 0.4]], [[1, 0, 0]], [[0, 0.5, 1]]]]
    )
    hue, saturation, value = noise.to_hsv(x)
    expected = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in x[:, 0]])
    np.testing.assert_allclose(np.stack([hue, saturation, value], axis=-1)[:, 0], expected, atol=1e-12)
    np.testing.assert_allclose(noise.from_hsv(hue, saturation, value), x, atol=1e-12)


def test_brightness_and_saturation_by_the_standard_library():
    x = values()
    for found, change in (
        (noise.brightness(x, 0.3), lambda h, s, v: (h, s, min(v + 0.3, 1))),
        (noise.saturate(x, 5, 0.1), lambda h, s, v: (h, min(s * 5 + 0.1, 1), v)),
    ):
        expected = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in x.reshape(-1, 3)]
        np.testing.assert_allclose(found.reshape(-1, 3), expected, atol=1e-9)


def test_contrast_keeps_each_channels_mean():
    x = values()
    found = noise.contrast(x, 0.2)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), x.mean(axis=(0, 1)))
    np.testing.assert_allclose(found.std(axis=(0, 1)), 0.2 * x.std(axis=(0, 1)))


def test_jpeg_and_pixels_are_pillows():
    image = picture(56, 40)
    shown = Image.fromarray(image.permute(1, 2, 0).numpy())
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=10)
    expected = np.asarray(Image.open(file))
    found = Corruption("jpeg_compression", 4)(image, 0).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1  # of cutting 254.999... off
    small = shown.resize((int(40 * 0.4), int(56 * 0.4)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((40, 56), Image.Resampling.BOX))
    found = Corruption("pixelate", 3)(image, 0).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1


# Blur


def test_a_disk():
    kernel = blur.disk(3, 0.1)
    assert kernel.shape == (17, 17)
    assert kernel.sum() == pytest.approx(1)
    inside = kernel > kernel.max() / 2
    assert int(inside.sum()) == 29  # places within 3 of the middle
    assert blur.disk(10, 0.5).shape == (21, 21)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])


def test_defocus_of_a_point_is_the_disk():
    x = np.zeros((41, 41, 1))
    x[20, 20] = 1
    np.testing.assert_allclose(blur.defocus_blur(x, 4, 0.5)[12:29, 12:29, 0], blur.disk(4, 0.5), atol=1e-12)


def test_gaussian_blur_keeps_a_flat_image_and_spreads_a_point():
    np.testing.assert_allclose(blur.gaussian_blur(GREY, 3), GREY)
    x = np.zeros((41, 41, 3))
    x[20, 20] = 1
    found = blur.gaussian_blur(x, 2)[..., 0]
    assert found[20, 22] / found[20, 20] == pytest.approx(math.exp(-0.5), rel=1e-6)


@pytest.mark.parametrize(("degrees", "ahead"), [(0, (0, 1)), (90, (1, 0)), (180, (0, -1)), (-90, (-1, 0))])
def test_motion_blur_is_a_half_gaussian_along_a_line(degrees, ahead):
    """Each pixel is a mean of those ahead of it, so that a point leaves its trail behind."""
    x = np.zeros((41, 41, 1))
    x[20, 20] = 1
    found = blur.motion_blur(x, 5, 3, degrees)[..., 0]
    weights = np.exp(-(np.arange(11) ** 2) / 18)
    weights /= weights.sum()
    line = np.array([found[20 - k * ahead[0], 20 - k * ahead[1]] for k in range(11)])
    np.testing.assert_allclose(line, weights, atol=1e-12)
    assert found.sum() == pytest.approx(1)


def test_shifted():
    x = np.arange(12.0).reshape(3, 4, 1)
    assert blur.shifted(x, 1, 0)[:, 0, 0].tolist() == [0, 0, 4]
    assert blur.shifted(x, 0, -2)[0, :, 0].tolist() == [2, 3, 3, 3]


def test_zoom_blur():
    """A flat image stays; the middle of a picture moves less than its border; factors are exact."""
    np.testing.assert_allclose(blur.zoom_blur(GREY, 1.16, 0.01), GREY)
    x = values()
    change = np.abs(blur.zoom_blur(x, 1.16, 0.01) - x).mean(axis=-1)
    assert change[22:26, 22:26].mean() < change[:4].mean()
    np.testing.assert_allclose(blur.zoomed(x, 1.0), x)
    doubled = blur.zoomed(x, 2.0)
    np.testing.assert_allclose(doubled[0, 0], x[12, 12])
    np.testing.assert_allclose(doubled[-1, -1], x[35, 35])


def test_glass_blur_moves_pixels_nearby():
    """Pixels of the two colours near an edge, and none further off."""
    x = np.zeros((40, 40, 3))
    x[:, 20:] = 1
    found = blur.glass_blur(x, 0.01, 2, 1, np.random.default_rng(0))[..., 0]
    assert set(np.unique(found)) <= {0.0, 1.0}
    assert (found[:, :17] == 0).all()
    assert (found[:, 23:] == 1).all()
    assert 0 < (found[:, 18:20] == 1).mean() < 1


def test_elastic_transform_of_nothing_is_nothing():
    x = values()
    found = blur.elastic_transform(x, 1e-12, 1.0, 1e-12, np.random.default_rng(0))
    np.testing.assert_allclose(found, x, atol=1e-9)
    moved = blur.elastic_transform(x, 6.0, 3.0, 1.0, np.random.default_rng(0))
    assert 0.01 < np.abs(moved - x).mean() < 0.4
    assert moved.min() >= x.min() - 1e-9  # between pixels that are there
    assert moved.max() <= x.max() + 1e-9


# Weather


@pytest.mark.parametrize("side", [32, 33, 100, 224])
def test_plasma(side):
    found = weather.plasma_of(side, 2.0, np.random.default_rng(0))
    assert found.shape[0] >= side
    assert found.shape[0] & (found.shape[0] - 1) == 0  # a power of two
    assert (found.min(), found.max()) == (0, 1)
    rough, smooth = (weather.plasma_of(64, decay, np.random.default_rng(0)) for decay in (1.2, 3.0))
    assert np.abs(np.diff(rough, axis=0)).mean() > np.abs(np.diff(smooth, axis=0)).mean()


def test_fog_keeps_the_brightest():
    x = values()
    found = weather.fog(x, 2.0, 2.0, np.random.default_rng(0))
    assert found.max() <= x.max() + 1e-9
    assert found.std() < x.std() * 1.5


def test_snow_whitens_and_adds_flakes():
    options = {"mean": 0.1, "deviation": 0.3, "zoom": 3, "threshold": 0.5, "radius": 4, "sigma": 4, "share": 0.8}
    dark = weather.snow(np.zeros((64, 64, 3)), **options, chance=np.random.default_rng(0))
    assert (dark >= 0.1 - 1e-9).all()  # 0.2 * 0.5 of white everywhere
    assert (dark > 0.3).any()
    none = weather.snow(np.zeros((64, 64, 3)), **{**options, "threshold": 9}, chance=np.random.default_rng(0))
    np.testing.assert_allclose(none, 0.1)


def test_spatter_leaves_most_of_the_image():
    for severity in (2, 5):
        options = dict(
            zip(
                ("mean", "deviation", "sigma", "threshold", "strength", "mud"),
                CONSTANTS["spatter"][severity - 1],
                strict=True,
            )
        )
        found = weather.spatter(GREY, **options, chance=np.random.default_rng(0))
        same = np.isclose(found, GREY).all(axis=-1).mean()
        assert 0.3 < same < 1
    mud = found[~np.isclose(found, GREY).all(axis=-1)]
    assert mud.mean(axis=0)[0] > mud.mean(axis=0)[2]
    assert mud.mean() < 0.5  # brown, darker than grey


def test_frost_is_a_piece_of_a_picture(tmp_path):
    texture = np.random.default_rng(0).random((90, 80, 3))
    found = weather.frost(GREY, 0.6, 0.75, texture, np.random.default_rng(1))
    piece = (found - 0.3) / 0.75
    places = [(y, x) for y in range(27) for x in range(17) if np.allclose(texture[y : y + 64, x : x + 64], piece)]
    assert len(places) == 1
    Image.fromarray((texture * 255).astype(np.uint8)).resize((400, 500)).save(tmp_path / "frost1.png")
    image = picture()
    photographed = Corruption("frost", 2, tmp_path)(image, 0)
    assert not torch.equal(photographed, Corruption("frost", 2)(image, 0))
    with pytest.raises(UserError, match="no folder"):
        frost_files(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no photographs of frost"):
        Corruption("frost", 1, tmp_path / "empty")(image, 0)


def test_drawn_frost_is_as_bright_as_ice():
    means = [weather.drawn_frost(side, np.random.default_rng(0)).mean() for side in (32, 96, 224)]
    assert all(0.25 < mean < 0.55 for mean in means)
