"""Every task by name: a plain dict. A task of one's own is one more entry."""

from __future__ import annotations

from convnext.tasks.classification.spec import CLASSIFICATION
from convnext.tasks.detection.spec import DETECTION
from convnext.tasks.pretraining.spec import PRETRAINING
from convnext.tasks.segmentation.spec import SEGMENTATION
from convnext.tasks.spec import TaskSpec

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in (CLASSIFICATION, DETECTION, SEGMENTATION, PRETRAINING)}
"""Name -> task."""
