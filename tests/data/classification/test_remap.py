"""Data under a model's classes: by name, in any order; numbers are the model's numbers, which is said."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from convnext.core.errors import UserError
from convnext.data.classification.dataset import Subset
from convnext.data.classification.remap import RemappedDataset

NAMES = ("ant", "bee", "cow", "dog")


class Data:
    def __init__(self, classes: Sequence[str], targets: Sequence[int]) -> None:
        self.classes, self.targets = tuple(classes), torch.tensor(list(targets))

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> torch.Tensor:
        return torch.zeros(3, 2, 2, dtype=torch.uint8)


def remapped(classes: Sequence[str], targets: Sequence[int], names: Sequence[str] = NAMES) -> RemappedDataset:
    return RemappedDataset(Subset(Data(classes, targets), range(len(targets))), names)


@pytest.mark.parametrize(
    ("classes", "targets", "expected", "first"),
    [
        (("0", "1", "2", "3"), (0, 3, 2), (0, 3, 2), 0),
        (("0", "1"), (1, 0), (1, 0), 0),  # shards of fewer classes
        (("0", "1", "2", "3", "4", "5"), (1, 0), (1, 0), 0),  # that names more than there are images of
        (("1", "2", "3", "4"), (0, 3), (0, 3), 1),  # from 1 to the last
        (("1", "2", "3"), (0, 2), (1, 3), 0),  # from 1 to another: the model's numbers
        (("003", "000"), (0, 1), (3, 0), 0),
    ],
)
def test_numbers_are_the_models(
    classes: Sequence[str], targets: Sequence[int], expected: Sequence[int], first: int
) -> None:
    data = remapped(classes, targets)
    assert tuple(data.targets.tolist()) == tuple(expected)
    assert data.classes == NAMES
    (note,) = data.notes
    assert f"the data's classes are numbers, and taken as the model's, from {first}: " in note
    used = sorted({(classes[place], NAMES[target]) for place, target in zip(targets, expected, strict=True)})
    assert all(f"{number} is '{name}'" in note for number, name in used)


@pytest.mark.parametrize(("classes", "targets"), [(("0", "4"), (0, 1)), (("2", "5"), (0, 1)), (("0", "99"), (0, 1))])
def test_numbers_that_the_model_does_not_have(classes: Sequence[str], targets: Sequence[int]) -> None:
    with pytest.raises(UserError, match=rf"numbers up to {classes[1]}, and the model has 4 classes.* from 0 to 3, or"):
        remapped(classes, targets)


def test_numbers_that_are_names() -> None:
    data = remapped(("7", "3"), (0, 1), names=("3", "5", "7"))
    assert (data.targets.tolist(), data.notes) == ([2, 0], [])
    with pytest.raises(UserError, match="not among the model's 3: '1'"):
        remapped(("1", "3"), (0, 1), names=("3", "5", "7"))
    with pytest.raises(UserError, match="not among the model's 4"):
        remapped(("0", "x"), (0, 1))


def test_names_in_any_order() -> None:
    data = remapped(("dog", "ant"), (0, 1, 0))
    assert (data.targets.tolist(), data.notes) == ([3, 0, 3], [])
