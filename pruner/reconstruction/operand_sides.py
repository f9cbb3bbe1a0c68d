"""OperandSide: one operand of a product in both networks, as rows for a fit, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..utils import make_generator
from .cut_axes import CutAxes
from .layer_samples import mark_holdout
from .operand_rows import OperandMap
from .product_operands import Operand
from .ridge import Moments, RidgeFit, fit_ridge

Values = Mapping[str, Any]
Weights = tuple[Tensor, Tensor]
"""[heads, inputs, width] and [heads, width], of an operand."""


@dataclass(frozen=True)
class OperandRows:
    """What one side reads, [parts, tokens, inputs], and what the dense network's operand is there.

    ``y`` is [parts, tokens, heads, width]; ``old`` are the dense network's weights for that,
    [inputs, heads, width].
    """

    x: Tensor
    y: Tensor
    old: Tensor
    where: OperandMap


class OperandSums:
    """Moments of one side's rows, and their means."""

    def __init__(self, rows: OperandRows) -> None:
        self.old, self.where = rows.old, rows.where
        size = rows.x.shape[2], rows.y[0, 0].numel()
        self.train, self.held_out = Moments(1, *size), Moments(1, *size)
        self.rows, self.x, self.y = 0, rows.x.new_zeros(size[0]), rows.y.new_zeros(size[1])

    def add(self, rows: OperandRows, centred: bool) -> None:
        """Add rows, about their mean in each part where centred."""
        x, y = rows.x, rows.y.flatten(2)
        self.rows += x.shape[0] * x.shape[1]
        self.x, self.y = self.x + x.sum((0, 1)), self.y + y.sum((0, 1))
        if centred:
            x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
        fold = mark_holdout(x)
        for part, samples in ((self.train, ~fold), (self.held_out, fold)):
            if samples.any():
                part.add(x[samples].flatten(0, 1)[None], y[samples].flatten(0, 1)[None])


class OperandSide:
    """Queries or keys of both networks."""

    def __init__(self, operand: Operand, twin: Operand, axes: CutAxes, centred: bool) -> None:
        self.operand, self.twin, self.centred = operand, twin, centred
        self.kept = axes.find_kept(operand.node.name)
        source = operand.read.source.name
        self.kept_inputs = axes.find_kept(source)[operand.read.form.input_axis]

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the cut network's nodes."""
        return (self.operand.read.source.name, *self.operand.chain.needs)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the dense network's nodes."""
        return (self.twin.node.name, *self.twin.chain.needs)

    def sample(self, ours: Values, theirs: Values, count: int, batch: int) -> OperandRows | None:
        """Return the rows of a batch; None where heads are no channels of a linear operator."""
        own, twin = self.operand, self.twin
        shape = ours[own.chain.start.name].shape
        axis = own.read.form.channel_axes[0]
        where = OperandMap.build(own.arrange(own.chain.index(ours)), shape, axis)
        goal, index = (twin.arrange(v) for v in (theirs[twin.node.name], twin.chain.index(theirs)))
        runs = self.find_runs(theirs[twin.node.name].shape)
        if where is None or runs is None or len(runs) != len(where.head):
            return None
        first = runs.to(goal.device)[where.runs[0]]
        dense_shape = theirs[twin.chain.start.name].shape
        dense_axis = twin.read.form.channel_axes[0]
        inner = int(np.prod(dense_shape[dense_axis + 1 :]))
        channels = index[first, 0] // inner % dense_shape[dense_axis]
        weight = twin.read.form.arrange(twin.read.weight.tensor.detach().double())[0]
        kept = np.repeat(self.kept_inputs, len(weight) // len(self.kept_inputs))
        old = weight[torch.from_numpy(np.flatnonzero(kept)).to(weight.device)]
        seed = make_generator("tokens", own.node.name, batch)
        at = torch.randperm(where.rows.shape[1], generator=seed)[:count].to(goal.device)
        every = torch.arange(own.read.form.count_positions(ours[own.chain.start.name]))
        x = own.read.form.sample_inputs(
            ours[own.read.source.name], shape, every.to(goal.device)
        ).flatten(0, 1).flatten(1)  # fmt: skip
        y = goal[runs.to(goal.device)[where.runs]][:, :, at]
        return OperandRows(
            x[where.rows[:, at]], y.transpose(1, 2), old[:, channels] * twin.factor, where
        )

    def find_runs(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return which of the dense operand's runs stay: [runs kept] int64."""
        *runs, tokens, _ = self.twin.order
        kept = np.ones(1, bool)
        for axis in runs:
            mask = _repeat_mask(self.kept[axis], shape[axis])
            if mask is None:
                return None
            kept = np.outer(kept, mask).ravel()
        return torch.from_numpy(np.flatnonzero(kept)) if self.kept[tokens].all() else None

    def fit(self, sums: OperandSums) -> RidgeFit:
        """Fit all of the dense operand's channels to what the cut network reads."""
        biased = not self.centred and self.operand.read.bias is not None
        return fit_ridge(sums.train, sums.held_out, sums.old.flatten(1)[None], biased=biased)

    def read_weights(self, where: OperandMap) -> Weights:
        """Return the cut network's weights."""
        read, channels = self.operand.read, where.channels
        weight = read.form.arrange(read.weight.tensor.detach().double())[0]
        bias = torch.zeros_like(weight[0])
        if read.bias is not None:
            bias = read.bias.tensor.detach().double().flatten()
        factor = self.operand.factor
        return weight[:, channels].transpose(0, 1) * factor, bias[channels] * factor

    def write(self, weights: Weights, where: OperandMap, chosen: Tensor) -> None:
        """Put weights of some heads in the place of the cut network's."""
        read, factor = self.operand.read, self.operand.factor
        at = where.channels[chosen.to(where.channels.device)].flatten()
        own = read.weight.tensor.detach()
        matrix = read.form.arrange(own.double())
        matrix = matrix.clone()
        matrix[0, :, at] = (weights[0][chosen].transpose(0, 1).flatten(1) / factor).to(matrix)
        own.copy_(read.form.restore(matrix, own.shape))
        if read.bias is not None:
            bias = read.bias.tensor.detach()
            flat = bias.flatten().double()
            flat[at] = (weights[1][chosen].flatten() / factor).to(flat)
            bias.copy_(flat.view_as(bias))


def _repeat_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_] | None:
    """Return a mask along an axis of another batch, which is the axis' leading factor."""
    if mask.all():
        return np.ones(size, bool)
    if len(mask) == size:
        return mask
    for period in range(1, len(mask) + 1):
        repeats = len(mask) % period == 0 and size % period == 0
        if repeats and (mask.reshape(-1, period) == mask[:period]).all():
            return np.tile(mask[:period], size // period)
    return None
