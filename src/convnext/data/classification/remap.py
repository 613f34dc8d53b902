"""Images labelled for one model's classes: the same class names, whatever their order or number here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.data.classification.dataset import ClassificationDataset, images_of_each, several_labels
from convnext.data.classification.dataset import class_dirs as class_dirs_of


class RemappedDataset:
    """A data set whose targets are positions in `classes`; a data set itself.

    `class_dirs` are the names of the folders that the model's data had, where they are known (ImageNet's ids): folders
    of these names count before names for people, which differ from list to list. Data that numbers its classes has the
    model's numbers, from 0 (from 1 where they run from 1 to its last): `notes` say so.

    Raises UserError where the data set has a class that `classes` lacks, or one that stands there twice.
    """

    def __init__(self, dataset: ClassificationDataset, classes: Sequence[str], class_dirs: Sequence[str] = ()) -> None:
        self.dataset, self.classes = dataset, tuple(classes)
        self.notes: list[str] = []
        keyed = bool(class_dirs) and set(class_dirs_of(dataset)) <= set(class_dirs)
        given, known = (class_dirs_of(dataset), class_dirs) if keyed else (dataset.classes, self.classes)
        if tuple(given) == tuple(known):
            self.targets = dataset.targets
            return
        places = {name: i for i, name in enumerate(known)}
        used = [given[i] for i in images_of_each(dataset).nonzero().flatten().tolist()]
        unknown = [name for name in used if name not in places]
        if unknown and _are_numbers(given) and not _are_numbers(known):
            places = self._numbered(given, used)
        elif unknown:
            hint = nearest(unknown[0], places) or f" It knows {', '.join(self.classes[:5])}, ..."
            raise UserError(
                f"{len(unknown)} of the data's {len(used)} classes are not among the model's {len(self.classes)}: "
                f"'{unknown[0]}', for one.{hint} The class folders need the names that the model was trained with."
            )
        doubled = sorted(name for name in used if list(known).count(name) > 1)
        if doubled:
            raise UserError(
                f"The model has the class '{doubled[0]}' twice: the data needs all its classes, in its order."
            )
        lookup = torch.tensor([places.get(name, -1) for name in given])
        if several_labels(dataset):
            known_here = (lookup >= 0).nonzero().flatten()
            self.targets = torch.zeros((len(dataset), len(self.classes)), dtype=torch.uint8)
            self.targets[:, lookup[known_here]] = dataset.targets[:, known_here].to(torch.uint8)
        else:
            self.targets = lookup[dataset.targets]

    def _numbered(self, given: Sequence[str], used: Sequence[str]) -> dict[str, int]:
        """Class number, as text -> place among the model's classes."""
        numbers, last = {int(text) for text in used}, len(self.classes)
        first = 1 if min(numbers) == 1 and max(numbers) == last else 0
        if max(numbers) - first >= last:
            raise UserError(
                f"The data's classes are numbers up to {max(numbers)}, and the model has {last} classes: these are its "
                f"numbers from 0 to {last - 1}, or from 1 to {last}. Name the classes as the model does."
            )
        shown = [f"{text} is '{printable(self.classes[int(text) - first])}'" for text in used[:3]]
        more = ", ..." if len(used) > 3 else ""
        self.notes.append(
            f"the data's classes are numbers, and taken as the model's, from {first}: {', '.join(shown)}{more}"
        )
        return {text: int(text) - first for text in given if 0 <= int(text) - first < last}

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises `decode.BadImage`."""
        return self.dataset.read(index)

    def name(self, index: int) -> str:
        return self.dataset.name(index)


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether classes are called by numbers alone, each its own."""
    plain = all(name.isascii() and name.isdigit() and len(name) < 10 for name in names)
    return plain and len({int(name) for name in names}) == len(names) > 0
