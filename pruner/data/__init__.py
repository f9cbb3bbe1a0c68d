"""Reads data sets as batches of tensors, in an order that seed and epoch fix."""

from .image_folder import ImageData, open_images
from .loader import Batches
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD
from .protocol import Batch, EpochBatches, TaskData

__all__ = [
    "Batch", "Batches", "EpochBatches", "IMAGENET_MEAN", "IMAGENET_STD", "ImageData", "TaskData",
    "open_images",
]  # fmt: skip
