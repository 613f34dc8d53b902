"""Semantic segmentation, as the rest of the program sees it."""

from __future__ import annotations

from convnext.tasks.spec import Texts, task_of_package

SEGMENTATION = task_of_package(
    __package__ or "",
    "segment",
    Texts(
        model="segmenter",
        does="gives each pixel of an image a class",
        data="images and label maps of the same names: images/train/ and annotations/train/ (and the same for val), "
        "with the names of the classes in classes.txt or labels.json; or outlined objects, as a detector takes them, "
        "with --labels objects",
        examples=(("train ade20k/upernet_convnext_tiny --data ADEChallengeData2016", "the paper's UPerNet"),),
        goal="mIoU",
        scratch="about 200 images or more",
    ),
    marks=("decode_head.conv_seg.weight", "decode_head.classifier.weight", "decode_head.bias"),
    data_options=("labels",),
    draws=True,
    name_pattern=r"(upernet|mlp|linear)_\w+(\.\w+_\w+)?",
)
