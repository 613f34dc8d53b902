"""Which images are the same, which look alike, and which only seem to."""

from __future__ import annotations

import numpy as np
import torch

from convnext.data import fingerprints
from convnext.data.decode import BadImage
from convnext.data.fingerprints import NEAR, Fingerprint, fingerprint, look_alikes, same_pixels, survey


def of_hash(bits: int, pixels: bytes = b"") -> Fingerprint:
    return Fingerprint(0, 8, 8, pixels or bits.to_bytes(16, "big"), bits)


def test_hash_by_hand():
    ramp = torch.arange(9).repeat(8, 1) * 10
    image = ramp.to(torch.uint8).expand(3, 8, 9)
    assert fingerprint(image).looks == (1 << 64) - 1  # brighter at every step to the right
    assert fingerprint(image.flip(2)).looks == 0
    step = torch.zeros(3, 8, 9, dtype=torch.uint8)
    step[:, 2, 5:] = 200
    assert fingerprint(step).looks == 1 << (2 * 8 + 4)


def test_the_same_image_in_other_sizes_and_light_looks_alike(picture):
    image = torch.from_numpy(picture(96, 128, seed=3)).permute(2, 0, 1)
    smaller = torch.nn.functional.interpolate(image[None].float(), size=(72, 96), mode="area")[0].to(torch.uint8)
    darker = (image.float() * 0.8).to(torch.uint8)
    other = torch.from_numpy(picture(96, 128, seed=4)).permute(2, 0, 1)
    prints = [fingerprint(one, i) for i, one in enumerate((image, smaller, other, darker, image.clone()))]
    assert same_pixels(prints) == [[0, 4]]
    pairs, left_out = look_alikes(prints)
    assert {(0, 1), (0, 3), (1, 3)} <= set(pairs)  # the first of two equal images stands for both
    assert not any(2 in pair or 4 in pair for pair in pairs)
    assert left_out == 0


def test_every_near_pair_is_found():
    rng = np.random.default_rng(0)
    hashes = [int(rng.integers(0, 1 << 64, dtype=np.uint64)) for _ in range(300)]
    for _ in range(60):
        near = hashes[int(rng.integers(300))]
        for bit in rng.choice(64, size=int(rng.integers(1, NEAR + 2)), replace=False):
            near ^= 1 << int(bit)
        hashes.append(near)
    prints = [of_hash(bits, i.to_bytes(16, "big")) for i, bits in enumerate(hashes)]
    apart = {
        (a, b)
        for a in range(len(hashes))
        for b in range(a + 1, len(hashes))
        if (hashes[a] ^ hashes[b]).bit_count() <= NEAR
    }
    assert look_alikes(prints) == (sorted(apart), 0)
    assert len(apart) > 30


def test_images_without_structure_are_not_alike():
    assert look_alikes([of_hash(0, b"a"), of_hash(1, b"b"), of_hash((1 << 64) - 1, b"c")]) == ([], 3)


def test_what_is_not_compared_is_counted(monkeypatch):
    alike = [of_hash((0xABCDEF << 40) | 0xFF00FF00 | bit, bytes([bit])) for bit in range(3)]
    assert len(look_alikes(alike)[0]) == 3
    monkeypatch.setattr(fingerprints, "_CROWDED", 2)
    assert look_alikes(alike)[1] == 3


def test_blocks_give_the_same_pairs(monkeypatch):
    rng = np.random.default_rng(1)
    prints = [of_hash(int(rng.integers(1, 1 << 14)) | 0xFFFFF << 40, bytes([i])) for i in range(60)]
    whole = look_alikes(prints)
    assert len(whole[0]) > 20
    monkeypatch.setattr(fingerprints, "_BLOCK", 7)
    assert look_alikes(prints) == whole


def test_other_sizes_are_other_pixels():
    flat = torch.zeros(3, 4, 6, dtype=torch.uint8)
    assert same_pixels([fingerprint(flat), fingerprint(flat.reshape(3, 6, 4))]) == []


class Images:
    classes = ("a", "b")

    def __len__(self) -> int:
        return 40

    def name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> torch.Tensor:
        if index % 13 == 5:
            raise BadImage(self.name(index), "damaged")
        return torch.full((3, 4, 5), index, dtype=torch.uint8)


def test_a_survey_reads_every_image_once(capsys):
    for workers in (0, 2):
        found = survey(Images(), workers=workers)
        assert [one.image for one in found.found] == [i for i in range(40) if i % 13 != 5]
        assert found.unreadable == {"5.png": "damaged", "18.png": "damaged", "31.png": "damaged"}
    assert "Skipped" not in capsys.readouterr().err
