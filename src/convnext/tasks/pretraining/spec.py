"""Masked pre-training, as the rest of the program sees it."""

from __future__ import annotations

from convnext.tasks.spec import Texts, task_of_package

PRETRAINING = task_of_package(
    __package__ or "",
    "pretrain",
    Texts(
        model="autoencoder",
        does="learns from images without labels: predicts the parts that it is not shown (FCMAE)",
        data="any folder of images, at any depth (labels are not used); ask for it with --task pretrain",
        examples=(("train --task pretrain --data photos", "pre-trains on images without labels"),),
        goal="explained",
        scratch="some ten thousand images",
    ),
    marks=("mask_token",),
    asked=True,
    draws=True,
)
