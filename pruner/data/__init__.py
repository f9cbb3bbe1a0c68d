"""Reads folders of images as batches of tensors, in an order that seed and epoch fix."""

from .image_folder import ImageData, open_images
from .loader import Batches
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Batches", "IMAGENET_MEAN", "IMAGENET_STD", "ImageData", "open_images"]
