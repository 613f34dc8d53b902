"""Handwritten digits that come with scikit-learn: a dataset to try everything on, without a download.

An image is uint8 (3, 8, 8); N = 1797, K = 10.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998), its test part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convnext.core.errors import UserError


class DigitsDataset:
    """1797 grey digits of 8 x 8 pixels, brought from 0..16 to 0..255. Raises UserError where scikit-learn is absent."""

    def __init__(self) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise UserError(
                'The digits come with scikit-learn, which is not installed: pip install "convnext[demo]".'
            ) from None
        images, labels = load_digits(return_X_y=True)
        grey = torch.from_numpy(images).reshape(-1, 1, 8, 8)
        self.images = torch.round(grey * (255 / 16)).to(torch.uint8).expand(-1, 3, -1, -1)  # three views of one channel
        self.targets = torch.from_numpy(labels).to(torch.int64)
        self.classes = self.class_dirs = tuple(str(digit) for digit in range(10))

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> Tensor:
        """uint8 (3, 8, 8)."""
        return self.images[index].contiguous()

    def name(self, index: int) -> str:
        return f"digits:{index:04d}"
