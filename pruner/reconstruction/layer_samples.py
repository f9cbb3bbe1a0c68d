"""Inputs and outputs of a linear operator at some of its positions."""

import math

import torch
from torch import Tensor

from ..utils import make_generator
from .linear_forms import LinearForm


def draw_positions(form: LinearForm, y: Tensor, count: int, *key: int | str) -> Tensor:
    """Draw at most ``count`` positions of an operator's result y, seeded by the key: [positions].

    A convolution's position is a place in the map, a linear layer's a row of a sample.
    """
    seed = make_generator("places", *key)  # the former name: seeds stay
    return torch.randperm(form.count_positions(y), generator=seed)[:count].to(y.device)


def mark_holdout(rows: Tensor) -> Tensor:
    """Mark every fifth row, which chooses a ridge instead of fitting the weights: [rows] bool."""
    return (torch.arange(len(rows)) % 5 == 4).to(rows.device)


def split_groups(rows: Tensor, groups: int) -> Tensor:
    """Regroup [samples, positions, channels, ...] as [groups, rows, channels of a group * ...]."""
    rows = rows.flatten(0, 1)
    width = math.prod(rows.shape[1:])
    return rows.reshape(len(rows), groups, width // groups).transpose(0, 1)
