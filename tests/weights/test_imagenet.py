"""The classes of published classifiers: as many as they have outputs, in their order, with names of their own."""

from __future__ import annotations

import pytest
from timm.data import ImageNetInfo

from convnext.core.text import printable
from convnext.weights.imagenet import COUNTS, imagenet_classes


@pytest.mark.parametrize("count", COUNTS)
def test_as_many_as_outputs_each_with_a_name_of_its_own(count: int) -> None:
    _, names, ids = imagenet_classes(count)
    assert len(set(names)) == len(set(ids)) == len(names) == len(ids) == count
    assert list(ids) == sorted(ids)  # the order of class folders
    assert all(printable(name) == name for name in names)


@pytest.mark.parametrize("count", COUNTS)
def test_the_order_is_timms(count: int) -> None:
    """Which trained on all three sets; the first word of its synsets is the name here."""
    data, names, ids = imagenet_classes(count)
    theirs = ImageNetInfo(data.lower())
    assert list(ids) == theirs.label_names()
    assert [name.removesuffix(f" ({ids[i]})") for i, name in enumerate(names)] == [
        theirs.index_to_description(i).split(",")[0].strip() for i in range(count)
    ]


def test_some_by_hand() -> None:
    _, names, ids = imagenet_classes()
    assert (names[0], ids[0]) == ("tench", "n01440764")
    assert (names[281], ids[281]) == ("tabby", "n02123045")
    assert ids[999] == "n15075141"
    assert names[134] == "crane (n02012849)"
    names, ids = imagenet_classes(21841)[1:]
    assert (names[0], ids[0]) == ("organism", "n00004475")
    assert names[ids.index("n02123045")].startswith("tabby")
    assert imagenet_classes(11821).ids[0] == "n00005787"


def test_sets_lie_within_each_other() -> None:
    small, middle, large = (set(imagenet_classes(count).ids) for count in COUNTS)
    assert middle < large
    assert len(small - large) == 1  # the release of autumn 2011 lacks the teddy bear


def test_another_number() -> None:
    with pytest.raises(KeyError):
        imagenet_classes(21842)
