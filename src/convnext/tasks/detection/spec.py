"""Object detection and instance segmentation, as the rest of the program sees them."""

from __future__ import annotations

from convnext.tasks.spec import Texts, task_of_package

DETECTION = task_of_package(
    __package__ or "",
    "detect",
    Texts(
        model="detector",
        does="finds objects in an image: boxes and masks",
        data="annotations in COCO's form: annotations/instances_train.json with images/train/ (and the same for val), "
        "train/_annotations.coco.json, or one .json file beside its images; or YOLO's (data.yaml), Pascal VOC's, "
        "CVAT's or LabelMe's",
        examples=(("train coco/mask_rcnn_convnext_tiny --data COCO", "the paper's Mask R-CNN"),),
        goal="box_AP",
        scratch="about 200 images or more",
    ),
    data_options=("crowds",),
    marks=("rpn_head.rpn_conv.weight",),
    draws=True,
    name_pattern=r"(cascade_)?(mask|faster)_rcnn_\w+(\.\w+_\w+)?",
)
