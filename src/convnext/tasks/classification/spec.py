"""Image classification, as the rest of the program sees it."""

from __future__ import annotations

from convnext.tasks.spec import Texts, function_of, task_of_package

CLASSIFICATION = task_of_package(
    __package__ or "",
    "classify",
    Texts(
        model="classifier",
        does="says what an image shows",
        data="one folder of images for each class (photos/cat/1.jpg, photos/dog/2.jpg), or train/ and val/ with such "
        "folders each; or a table of images and labels (csv, tsv, jsonl, parquet: photos/labels.csv); or tar files in "
        "WebDataset form",
        examples=(
            ("train --data photos", "picks a recipe for your images and says why"),
            ("train cifar10 --data cifar --optim.lr 1e-3", "a recipe by name, with another learning rate"),
        ),
        goal="top1",
        scratch="about 1,000 images of each class, 100 where they are small",
    ),
    data_options=(
        "folders",
        "loader.bands",
        "table.image",
        "table.label",
        "table.per_image",
    ),
    measure=function_of(f"{__package__}.bands", "measure"),
    evaluate_suites=function_of(f"{__package__}.robustness", "suite_figures"),
    keep=function_of(f"{__package__}.robustness", "keep"),
    compare=function_of(f"{__package__}.compare", "compare"),
    comparison_text=function_of(f"{__package__}.compare", "comparison_text"),
)
