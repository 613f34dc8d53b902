"""Tars: both layouts, reads by position, hostile and damaged archives."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import multiprocessing
import pickle
import random
import struct
import tarfile
from pathlib import Path

import pytest
import torch

from convnext.core.errors import UserError
from convnext.data import tar
from convnext.data.classification import shards as module
from convnext.data.classification.shard_index import find_shards
from convnext.data.classification.shards import ShardDataset
from convnext.data.decode import BadImage, decode

LIMIT = 10_000


def numbered(images: list[bytes], classes: list[int | str]) -> dict[str, bytes]:
    """The members of a WebDataset shard."""
    members: dict[str, bytes] = {}
    for i, (image, label) in enumerate(zip(images, classes, strict=True)):
        members |= {f"{i:04d}.png": image, f"{i:04d}.cls": str(label).encode()}
    return members


def pixels(data: bytes) -> torch.Tensor:
    return decode(data, name="", max_pixels=LIMIT)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_webdataset(tmp_path, tiny, pack, ending):
    paths = [
        pack(tmp_path / f"a-0{ending}", numbered(tiny[:3], [2, 0, "1\n"])),
        pack(tmp_path / f"a-1{ending}", numbered(tiny[3:5], [0, 4])),
    ]
    source = ShardDataset(paths, max_pixels=LIMIT)
    assert source.classes == ("0", "1", "2", "3", "4")
    assert source.targets.tolist() == [2, 0, 1, 0, 4]
    assert source.name(3) == f"a-1{ending}:0000"
    for i in (4, 0, 2, 1, 3):  # in any order
        assert torch.equal(source.read(i), pixels(tiny[i]))


def test_json_labels_and_other_members(tmp_path, tiny, pack):
    members = {
        "k.png": tiny[0],
        "k.json": b'{"label": 1, "caption": "x"}',
        "k.txt": b"hello",
        "k.mask.png": tiny[3],
        "._k.png": b"a Mac was here",
        "d/q.json": b'{"label": 0}',
        "d/q.png": tiny[1],
        "d/q.webp": tiny[2],
        "both.cls": b"2",
        "both.json": b'{"label": 0}',
        "both.png": tiny[4],
    }
    source = ShardDataset([pack(tmp_path / "a.tar", members)], max_pixels=LIMIT)
    assert [source.name(i) for i in range(3)] == ["a.tar:k", "a.tar:d/q", "a.tar:both"]
    assert source.targets.tolist() == [1, 0, 2]
    assert torch.equal(source.read(1), pixels(tiny[1]))


def test_class_folders_in_a_tar(tmp_path, tiny, pack):
    members = {"set/n02/a.png": tiny[0], "set/n01/b.v2.png": tiny[1], "readme.txt": b"x", "n01/.x.png": b""}
    (tmp_path / "classes.txt").write_text("n01 tench\n")
    source = ShardDataset([pack(tmp_path / "a.tar", members)], max_pixels=LIMIT)
    assert (source.classes, source.class_dirs) == (("tench", "n02"), ("n01", "n02"))
    assert source.targets.tolist() == [1, 0]
    assert source.name(1) == "a.tar:set/n01/b.v2.png"


def test_numbers_are_named_by_line(tmp_path, tiny, pack):
    path = pack(tmp_path / "a.tar", numbered(tiny[:2], [0, 1]))
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert ShardDataset([path], max_pixels=LIMIT).classes == ("ant", "bee", "cat")
    assert ShardDataset([path], max_pixels=LIMIT, keys=("0", "1")).classes == ("ant", "bee")
    (tmp_path / "classes.txt").write_text("ant\n")
    with pytest.raises(UserError, match=r"a.tar:0001 is of class 1, but classes.txt .* names 1 classes only"):
        ShardDataset([path], max_pixels=LIMIT)


def test_classes_of_the_training_part(tmp_path, tiny, pack):
    path = pack(tmp_path / "a.tar", {"b/1.png": tiny[0], "c/1.png": tiny[1]})
    assert ShardDataset([path], max_pixels=LIMIT, keys=("a", "b", "c")).targets.tolist() == [1, 2]
    with pytest.raises(UserError, match=r"a.tar:c/1.png is of class 'c', which the training images do not have"):
        ShardDataset([path], max_pixels=LIMIT, keys=("a", "b"))


def _read_in_child(source, queue):
    queue.put([source.read(i).sum().item() for i in range(len(source))])


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_workers_read_beside_the_parent(tmp_path, tiny, pack, ending):
    source = ShardDataset([pack(tmp_path / f"a{ending}", numbered(tiny, [i % 2 for i in range(12)]))], max_pixels=LIMIT)
    sums = [source.read(i).sum().item() for i in range(12)]  # the parent's file is open now
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own; what spawning does
    assert [copy.read(i).sum().item() for i in range(12)] == sums
    assert len(pickle.dumps(source)) < 5000  # neither the file nor its content travels
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=_read_in_child, args=(source, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(), queue.get(), [source.read(i).sum().item() for i in range(12)]] == [sums] * 3
    for child in children:
        child.join()


def test_few_files_are_open_at_once(tmp_path, tiny, pack, monkeypatch):
    monkeypatch.setattr(module, "_MAX_OPEN", 2)
    paths = [pack(tmp_path / f"{i}.tar", numbered(tiny[i : i + 1], [i])) for i in range(5)]
    source = ShardDataset(paths, max_pixels=LIMIT)
    for i in (0, 1, 2, 3, 4, 0, 2):
        assert torch.equal(source.read(i), pixels(tiny[i]))
        assert sum(archive.opened for archive in source.tars) <= 2


@pytest.mark.parametrize("content", ["cat", "-1", "1.5", "", "٣", "9" * 30, "100000", "two\nlines", "x" * 201])
def test_a_class_that_is_no_class_names_shard_and_key(tmp_path, tiny, pack, content):
    path = pack(tmp_path / "a.tar", numbered(tiny[:2], [0, content]))
    with pytest.raises(UserError, match=r"a.tar:0001(.cls)? (holds .* class number|is of class|has the class number)"):
        ShardDataset([path], max_pixels=LIMIT)


def test_lonely_images_and_class_files_are_said(tmp_path, tiny, pack):
    members = numbered(tiny, [0, 1] * 6)
    del members["0003.cls"], members["0005.png"]
    source = ShardDataset([pack(tmp_path / "a.tar", members)], max_pixels=LIMIT)
    assert len(source) == 10
    assert "Left out: 1 images have no class file (a.tar:0003.png)." in source.notes
    assert "Left out: 1 class files have no image (a.tar:0005)." in source.notes
    for key in ("0000", "0001", "0002"):
        del members[f"{key}.cls"]
    with pytest.raises(UserError, match=r"4 images have no class file \(b.tar:0000.png, .* Pack the shards again"):
        ShardDataset([pack(tmp_path / "b.tar", members)], max_pixels=LIMIT)


def test_images_without_any_class(tmp_path, tiny, pack):
    for name in ("1.png", "./1.png", "../1.png"):
        with pytest.raises(UserError, match="has no class: it lies in no folder"):
            ShardDataset([pack(tmp_path / "a.tar", {name: tiny[0]})], max_pixels=LIMIT)
    with pytest.raises(UserError, match=r"There is no image in a.tar. Accepted are tars"):
        ShardDataset([pack(tmp_path / "a.tar", {"x/notes.txt": b"x"})], max_pixels=LIMIT)


def test_links_devices_and_climbing_names_harm_nobody(tmp_path, tiny):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, kind, target in (
            ("cat/link.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("cat/hard.png", tarfile.LNKTYPE, "../../secret.png"),
            ("cat/device.png", tarfile.CHRTYPE, ""),
            ("cat/pipe.png", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        for name in ("../../dog/\x1b[31mclimb.png", "/cat/absolute.png"):
            info = tarfile.TarInfo(name)
            info.size = len(tiny[0])
            archive.addfile(info, io.BytesIO(tiny[0]))
    source = ShardDataset([path], max_pixels=LIMIT)
    assert [source.name(i) for i in range(len(source))] == ["a.tar:../../dog/?[31mclimb.png", "a.tar:/cat/absolute.png"]
    assert torch.equal(source.read(0), pixels(tiny[0]))
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_a_bad_image_in_a_shard(tmp_path, tiny, pack):
    source = ShardDataset([pack(tmp_path / "a.tar", {"a/1.png": tiny[0][:40], "b/2.png": tiny[1]})], max_pixels=LIMIT)
    with pytest.raises(BadImage, match=r"a\.tar:a/1\.png: "):
        source.read(0)
    (tmp_path / "a.tar").write_bytes(b"")  # emptied while in use
    with pytest.raises(BadImage, match="the file is empty"):
        source.read(1)


def test_damaged_tars(tmp_path, tiny, pack):
    whole = pack(tmp_path / "a.tar", numbered(tiny[:4], [0, 1, 0, 1])).read_bytes()
    header = whole.index(b"0002.png")

    def told(data: bytes, reason: str, name: str = "b.tar") -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=reason):
            ShardDataset([tmp_path / name], max_pixels=LIMIT)

    told(whole[: header + 300], "damaged|cut short")  # inside a header
    told(whole[: header + 512 + 10], "damaged|cut short")  # inside a file
    told(whole[:header] + b"\xff" * 512 + whole[header + 512 :], f"damaged at byte {header}")
    told(b"this is no tar at all" * 100, "is no tar, or damaged")
    told(b"", "is no tar, or damaged")
    told(b"\x1f\x8b no gzip", "damaged or cut short", "b.tar.gz")
    packed = pack(tmp_path / "c.tar.gz", numbered(tiny[:4], [0, 1, 0, 1])).read_bytes()
    told(packed[: len(packed) // 2], "damaged or cut short", "c.tar.gz")


def test_a_negative_size_ends(tmp_path, tiny, pack):
    """Sizes may be written in binary, then with a sign: listing such a tar must not go back and forth for ever."""
    data = bytearray(pack(tmp_path / "a.tar", {"a/1.png": tiny[0], "b/1.png": tiny[1]}).read_bytes())
    start = data.index(b"b/1.png")
    data[start + 124 : start + 136] = b"\xff" + struct.pack(">q", -1024).rjust(11, b"\xff")
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        ShardDataset([tmp_path / "a.tar"], max_pixels=LIMIT)


def test_damage_anywhere_ends_in_an_index_or_a_user_error(tmp_path, tiny, pack):
    whole = pack(tmp_path / "a.tar", numbered(tiny[:4], [0, 1, 0, 1]) | {"n" * 120 + "/x.png": tiny[5]}).read_bytes()
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    chance, told = random.Random(0), 0
    for _ in range(300):
        data = bytearray(whole)
        start = chance.choice(headers)
        for _ in range(chance.randint(1, 3)):
            data[start + chance.randrange(160)] = chance.choice((0, 255, 0x80, 48, chance.randrange(256)))
        data[start + 148 : start + 156] = b" " * 8  # the check sum is right, so that the damage is believed
        data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
        (tmp_path / "b.tar").write_bytes(data)
        try:
            source = ShardDataset([tmp_path / "b.tar"], max_pixels=LIMIT)
        except UserError:
            told += 1
            continue
        for i in range(len(source)):
            with contextlib.suppress(BadImage):
                source.read(i)
    assert told > 30


def test_gzip_bombs_and_large_archives_are_refused(tmp_path, tiny, pack, monkeypatch):
    monkeypatch.setattr(tar, "MAX_UNPACKED", 30_000)
    paths = [pack(tmp_path / f"{i}.tar.gz", numbered(tiny[:2], [0, 1])) for i in range(2)]
    assert len(ShardDataset(paths, max_pixels=LIMIT)) == 4
    monkeypatch.setattr(tar, "MAX_UNPACKED", 15_000)
    with pytest.raises(UserError, match=r"together are more than .* gunzip -k"):
        ShardDataset(paths, max_pixels=LIMIT)
    monkeypatch.setattr(tar, "MAX_UNPACKED", 5_000)
    with pytest.raises(UserError, match=r"0.tar.gz is more than .* gunzip -k"):
        ShardDataset(paths, max_pixels=LIMIT)


def test_find_shards(tmp_path, pack):
    for name in ("b.tar", "a.TAR", "c.tar.gz", ".hidden.tar", "d.tar.zst", "e.zip"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.tar").mkdir()
    assert [path.name for path in find_shards(tmp_path)] == ["a.TAR", "b.tar", "c.tar.gz"]


# what people pack


def test_classes_can_be_names(tmp_path, tiny, pack):
    members = {"0.png": tiny[0], "0.cls": b"dog\n", "1.png": tiny[1], "1.cls": b"cat", "2.png": tiny[2]}
    members["2.json"] = json.dumps({"label": "dog"}).encode()
    source = ShardDataset([pack(tmp_path / "a.tar", members)], max_pixels=LIMIT)
    assert (source.classes, source.targets.tolist()) == (("cat", "dog"), [1, 0, 1])
    members["2.json"] = b'{"label": 3}'
    with pytest.raises(UserError, match=r"numbers alone .* or names alone"):
        ShardDataset([pack(tmp_path / "b.tar", members)], max_pixels=LIMIT)


def test_class_numbers_from_one(tmp_path, tiny, pack):
    path = pack(tmp_path / "a.tar", numbered(tiny[:3], [1, 2, 4]))
    source = ShardDataset([path], max_pixels=LIMIT)
    assert (source.class_dirs, source.targets.tolist()) == (("1", "2", "3", "4"), [0, 1, 3])
    assert source.notes == (
        "Class numbers run from 1 to 4: 1 is the first class.",
        "1 of the 4 class numbers have no image (3).",
    )
    val = ShardDataset([pack(tmp_path / "v.tar", numbered(tiny[:1], [2]))], max_pixels=LIMIT, keys=source.class_dirs)
    assert val.targets.tolist() == [1]
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\ndog\n")
    assert ShardDataset([path], max_pixels=LIMIT).classes == ("ant", "bee", "cat", "dog")
    (tmp_path / "classes.txt").write_text("none\nant\nbee\ncat\ndog\n")  # five names: 0 is a class
    assert ShardDataset([path], max_pixels=LIMIT).targets.tolist() == [1, 2, 4]


def with_links(path: Path, files: dict[str, bytes], links: dict[str, tuple[bytes, str]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, (kind, target) in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def test_links_in_a_tar(tmp_path, tiny):
    links = {
        "b/hard.png": (tarfile.LNKTYPE, "a/1.png"),
        "b/soft.png": (tarfile.SYMTYPE, "../a/2.png"),
        "b/twice.png": (tarfile.SYMTYPE, "hard.png"),
        "b/out.png": (tarfile.SYMTYPE, "/etc/passwd"),
        "b/round.png": (tarfile.SYMTYPE, "round.png"),
        "b/pipe.png": (tarfile.FIFOTYPE, ""),
    }
    source = ShardDataset(
        [with_links(tmp_path / "a.tar", {"a/1.png": tiny[0], "a/2.png": tiny[1]}, links)], max_pixels=LIMIT
    )
    assert [source.names[i] for i in range(len(source))] == [
        "a/1.png",
        "a/2.png",
        "b/hard.png",
        "b/soft.png",
        "b/twice.png",
    ]
    for i, same in ((2, 0), (3, 1), (4, 0)):
        assert torch.equal(source.read(i), pixels(tiny[same]))
    assert source.targets.tolist() == [0, 0, 1, 1, 1]
    assert source.notes == ("Passed over in a.tar: 2 link to nothing in the tar, 1 pipe or device.",)


def test_tars_one_behind_the_other(tmp_path, tiny, pack):
    parts = [pack(tmp_path / f"{i}.tar", {f"{'ab'[i]}/{i}.png": tiny[i]}).read_bytes() for i in range(2)]
    (tmp_path / "c.tar").write_bytes(b"".join(parts) + bytes(3 << 20))
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(parts[0]) + gzip.compress(parts[1]))
    for name in ("c.tar", "c.tar.gz"):
        source = ShardDataset([tmp_path / name], max_pixels=LIMIT)
        assert source.targets.tolist() == [0, 1]
        assert torch.equal(source.read(1), pixels(tiny[1]))
    (tmp_path / "d.tar").write_bytes(parts[0] + b"x" * 2000)
    with pytest.raises(UserError, match="is damaged at byte"):
        ShardDataset([tmp_path / "d.tar"], max_pixels=LIMIT)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_seen_from_the_content(tmp_path, tiny, pack, compress):
    plain = pack(tmp_path / "a.tar", {"a/1.png": tiny[0], "BZh91.png/2.png": tiny[1]})
    (tmp_path / "b.tar").write_bytes(compress(plain.read_bytes()))
    plain.rename(tmp_path / "a.tar.gz")
    for name in ("a.tar.gz", "b.tar"):
        assert len(ShardDataset([tmp_path / name], max_pixels=LIMIT)) == 2


def test_a_tar_whose_first_name_looks_like_a_magic(tmp_path, tiny, pack):
    path = pack(tmp_path / "a.tar", {"BZhang/1.png": tiny[0], "version 1/2.png": tiny[1]})
    assert ShardDataset([path], max_pixels=LIMIT).classes == ("BZhang", "version 1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 and so on", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd -d"),
    ],
)
def test_what_is_no_tar_is_named(tmp_path, content, said):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=said):
        ShardDataset([tmp_path / "a.tar"], max_pixels=LIMIT)
