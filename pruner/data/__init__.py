"""Reads data sets as batches of tensors, in an order that seed and epoch fix."""

from .batch import count_samples, require_samples, split_batch
from .class_masks import MaskSamples, open_masks
from .coco import BoxSamples, open_coco
from .collate import collate
from .dataset_samples import DatasetSamples
from .framing import Framing
from .hf_datasets import HfSamples, is_saved_dataset, open_saved_dataset
from .image_folder import ImageData, open_images
from .image_texts import ImageTextSamples, open_image_texts
from .joined import JoinedSamples, TurnsData, join_data
from .label_sets import LabelSetSamples, open_label_sets
from .loader import Batches
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .protocol import Batch, EpochBatches, TaskData
from .sample_batches import SampleBatches
from .sample_data import SampleData
from .samples import Sample, Samples
from .text_lines import LineSamples, open_text_lines, read_alphabet
from .texts import TextSamples, open_texts
from .tokens import FolderTokenizer, Tokenizer
from .unlabelled import ImageSamples, open_unlabelled
from .user_datasets import open_factory, wrap_datasets
from .value_maps import MapSamples, open_maps

__all__ = [
    "Batch", "Batches", "BoxSamples", "DatasetSamples", "EpochBatches", "FolderTokenizer",
    "Framing", "HfSamples", "IMAGENET_MEAN", "IMAGENET_STD", "ImageData", "ImageSamples",
    "ImageTextSamples", "JoinedSamples", "LabelSetSamples", "LineSamples", "MapSamples",
    "MaskSamples", "Preprocessing", "Sample", "SampleBatches", "SampleData", "Samples",
    "TaskData", "TextSamples", "Tokenizer", "TurnsData", "collate", "count_samples",
    "is_saved_dataset", "join_data", "open_coco", "open_factory", "open_image_texts",
    "open_images", "open_label_sets", "open_maps", "open_masks", "open_saved_dataset",
    "open_text_lines", "open_texts", "open_unlabelled", "read_alphabet", "require_samples",
    "split_batch", "wrap_datasets",
]  # fmt: skip
