"""Image classification, as the rest of the program sees it."""

from __future__ import annotations

from convnext.tasks.spec import Texts, task_of_package

CLASSIFICATION = task_of_package(
    __package__ or "",
    "classify",
    Texts(
        model="classifier",
        does="says what an image shows",
        data="one folder of images for each class (photos/cat/1.jpg, photos/dog/2.jpg), or train/ and val/ with such "
        "folders each; or tar files in WebDataset form",
        examples=(
            ("train --data photos", "picks a recipe for your images and says why"),
            ("train cifar10 --data cifar --optim.lr 1e-3", "a recipe by name, with another learning rate"),
        ),
        goal="top1",
    ),
    data_options=("folders",),
)
