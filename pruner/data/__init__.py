"""Reads data sets as batches of tensors, in an order that seed and epoch fix."""

from .class_masks import MaskSamples, open_masks
from .coco import BoxSamples, open_coco
from .collate import collate
from .framing import Framing
from .image_folder import ImageData, open_images
from .loader import Batches
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .protocol import Batch, EpochBatches, TaskData
from .sample_batches import SampleBatches
from .sample_data import SampleData
from .samples import Sample, Samples

__all__ = [
    "Batch", "Batches", "BoxSamples", "EpochBatches", "Framing", "IMAGENET_MEAN", "IMAGENET_STD",
    "ImageData", "MaskSamples", "Preprocessing", "Sample", "SampleBatches", "SampleData", "Samples",
    "TaskData", "collate", "open_coco", "open_images", "open_masks",
]  # fmt: skip
