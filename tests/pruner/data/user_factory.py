"""Data sets as users write them, made by factories that the tests name."""

from __future__ import annotations

import random

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

COUNT = 12


class Rows(Dataset):
    """Map-style, with random changes of its own by all three generators."""

    def __init__(self, count=COUNT, noise=True):
        self.count, self.noise = count, noise
        self.classes = ["even", "odd"]

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        noise = (
            [torch.rand(()).item(), np.random.rand(), random.random()] if self.noise else [0] * 3
        )
        return torch.tensor([row, *noise]), row % 2


class Stream(IterableDataset):
    """Iterable, with or without an order that its epoch fixes."""

    def __init__(self, count=COUNT):
        self.count = count

    def __iter__(self):
        return (
            (torch.tensor([float(row), torch.rand(()).item()]), row) for row in range(self.count)
        )


class Epochs(Stream):
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(self.count)
        return ((torch.tensor([float(row), 0.0]), int(row)) for row in order)


class Pictures(Dataset):
    """Pillow's images, with labels or masks."""

    def __init__(self, masks=False):
        self.masks = masks

    def __len__(self):
        return COUNT

    def __getitem__(self, row):
        image = Image.new("LA" if row % 2 else "RGB", (30, 20), (20 * row,) * (2 if row % 2 else 3))
        return image, Image.new("P", (30, 20), row) if self.masks else row


def pair(count=COUNT):
    return Rows(count), Rows(5)


def by_split(split, count=COUNT):
    return Rows(count if split == "train" else 5)


def named():
    return {"train": [{"x": np.ones(2), "mask": [1, 0], "y": k} for k in range(4)],
            "validation": Rows(5)}  # fmt: skip


def tensors():
    return TensorDataset(torch.arange(12.0)[:, None], torch.arange(12))


def inputs_only():
    return TensorDataset(torch.arange(12.0)[:, None]).tensors[0]


def loader():
    return DataLoader(Rows())


def generator():
    return (item for item in Stream())


def stream(count=COUNT):
    return Stream(count)


def epochs():
    return Epochs()


def streamed_test():
    return Rows(), Stream()


def pictures(masks=False):
    return Pictures(masks)


def broken():
    raise ValueError("no disk\nhere")


def nothing():
    return 3


def triple():
    return [(1, 2, 3)]


READY = Rows()
