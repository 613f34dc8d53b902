"""What predictors share: images in whatever form people have them, in batches, one result for each. R is the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image
from torch import Tensor

from convnext.core.errors import UserError
from convnext.data.inputs import MAX_PIXELS, image_name, is_single, iterate, read_image

R = TypeVar("R")


class BasePredictor(ABC, Generic[R]):
    """A loaded model that predicts images.

    Calling it takes one image (a path, an address, the bytes of a file, a PIL image, an array HWC uint8 or float 0..1,
    a tensor CHW) and gives its result; or a list, tuple, generator or 4-dimensional array of them, and gives a list of
    results, of a generator an iterator. Errors: `data.inputs`.
    """

    batch_size: int = 1
    """Images that are predicted at a time."""

    @abstractmethod
    def predict(self, images: Sequence[Tensor], names: Sequence[str] = ()) -> list[R]:
        """The results of some images, uint8 (3, H, W) in RGB each, of any sizes. names: for people."""

    def stream(self, images: Any) -> Iterator[R]:
        """The results of many images, in their order, `batch_size` at a time; they are read when their turn comes."""
        return self._stream(images, self.predict)

    def _stream(
        self, images: Iterable[Any], predict: Callable[[Sequence[Tensor], Sequence[str]], list[R]]
    ) -> Iterator[R]:
        named = ((image_name(image, i), image) for i, image in enumerate(iterate(images)))
        while some := list(islice(named, self.batch_size)):
            tensors = [read_image(image, max_pixels=MAX_PIXELS) for _, image in some]
            yield from predict(tensors, [name for name, _ in some])

    def _call(self, images: Any, predict: Callable[[Sequence[Tensor], Sequence[str]], list[R]]) -> Any:
        if is_single(images):
            return predict([read_image(images, max_pixels=MAX_PIXELS)], [image_name(images, 0)])[0]
        results = self._stream(images, predict)
        return results if isinstance(images, Iterator) else list(results)


class BaseResult(ABC):
    """What a model sees in one image.

    Args:
        image: uint8 (3, H, W), on the CPU.
        name: of the image, for people.
    """

    def __init__(self, image: Tensor, name: str) -> None:
        self.image, self.name = image, name

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with the image's name."""

    @abstractmethod
    def summary(self) -> str:
        """In a line, for people."""

    @abstractmethod
    def plot(self) -> Image.Image:
        """The image with what was found drawn on it."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """A row for each thing that was found, for `to_pandas`."""

    def save(self, path: str | Path) -> dict[str, Path]:
        """Writes the drawing to `path` (.png, .jpg, ...); what each written file is -> its path."""
        target = _writable(Path(path))
        self.plot().save(target)
        return {"picture": target}

    def to_pandas(self) -> Any:
        """`rows` as a pandas DataFrame. Raises UserError where pandas is not installed."""
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError("to_pandas() needs pandas: pip install pandas. rows() gives the same as a list.") from None
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {self.summary()})"


def _writable(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror} ({path.parent}).") from None
    return path


class NoCollector:
    """Collects nothing (`spec.Collector`)."""

    def add(self, number: int, prediction: Any) -> None:
        """Forgets it."""

    def close(self) -> None:
        """Writes nothing."""
