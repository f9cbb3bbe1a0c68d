"""ValueFit: values of fewer channels that what reads their mixtures can make most of.

Attention mixes the values of tokens with weights that are the same for all channels of a head, so
any r directions of the values may stay as well as any r channels. With the dense network's mixtures
A (of a head, about their mean), C = E A^T A and W the weights that read them, the error

    min over T [width, r], O [r, outputs] of mean |A W - A T O|^2

is least where T = C^-1/2 V, O = V^T C^1/2 W, with V the first r eigenvectors of C^1/2 W W^T C^1/2
(Eckart and Young 1936). T goes into the weights of the values, fitted to the cut network's inputs,
and O into the reader, which is fitted to the cut network's own mixtures right after. Directions are
taken where all heads' together leave less of the reader's output unexplained than the plan's
channels do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from ..graph import StagedExecution
from .covariance_roots import find_roots
from .cut_axes import CutAxes
from .layout_chains import LayoutChain
from .linear_reads import LinearRead
from .operand_rows import OperandMap
from .operand_sides import OperandSide, OperandSums, Values
from .product_operands import Operand
from .ridge import Moments


@dataclass(frozen=True)
class RowMixture:
    """A product that mixes the rows of one operand, and what reads the mixtures.

    Attributes:
        node: The operator.
        value: The operand whose width the result has.
        order: The result's axes in the order [runs..., rows, width].
        chain: From the result to the reader.
        reader: A linear operator.
    """

    node: fx.Node
    value: Operand
    order: tuple[int, ...]
    chain: LayoutChain
    reader: LinearRead


@dataclass(frozen=True)
class ValueTask:
    """A mixture of the cut network, of values of a cut width.

    Attributes:
        mixture: In the cut network.
        twin: In the dense network.
    """

    mixture: RowMixture
    twin: RowMixture

    @property
    def reads(self) -> tuple[LinearRead, ...]:
        """What writes the values."""
        return (self.mixture.value.read,)


class ValueFit:
    """A task with the axes that a plan keeps."""

    def __init__(self, task: ValueTask, axes: CutAxes) -> None:
        """Take a task."""
        self.task = task
        self.side = OperandSide(task.mixture.value, task.twin.value, axes, False)
        self.width = axes.find_kept(task.mixture.value.node.name)[task.mixture.value.order[-1]]
        reader = task.mixture.reader
        self.outputs = axes.find_kept(reader.result.name)[reader.form.channel_axes[0]]

    @torch.no_grad()
    def run(
        self, cut: StagedExecution, dense: StagedExecution, spatial_samples: int, before: str
    ) -> bool:
        """Refit values and their reader; return whether directions were taken.

        Args:
            cut: The cut network.
            dense: The dense one.
            spatial_samples: Tokens of a sample that are looked at.
            before: The node that both executions may move to.
        """
        ours = {*self.side.needs, *self.task.mixture.chain.needs}
        twin = self.task.twin
        theirs = {*self.side.targets, *twin.chain.needs, twin.reader.source.name}
        sums, mixed, places = None, None, None
        both = zip(cut.values(ours, before), dense.values(theirs, before), strict=True)
        for k, (found, goal) in enumerate(both):
            rows = self.side.sample(found, goal, spatial_samples, k)
            if rows is None:
                return False
            if places is None:
                places = self._find_places(found, goal, rows.where)
                if places is None:
                    return False
            sums = sums or OperandSums(rows)
            sums.add(rows, False)
            read = twin.reader
            y = goal[twin.chain.start.name]
            x = goal[read.source.name].movedim(read.form.input_axis, -1).flatten(0, -2)
            mixed = mixed or Moments(1, x.shape[1], 0)
            at = torch.randperm(len(x), generator=torch.Generator().manual_seed(k))
            x = x[at[: len(y) * spatial_samples].to(x.device)]
            mixed.add(x[None], x[None, :, :0])
        if sums is None or mixed is None or places is None:
            return False
        return self._settle(sums, mixed, *places)

    def _find_places(
        self, ours: Values, theirs: Values, where: OperandMap
    ) -> tuple[Tensor, Tensor] | None:
        """Return the reader's inputs of every kept head and channel, in both networks."""
        own, twin = self.task.mixture, self.task.twin
        runs = self.side.find_runs(theirs[twin.value.node.name].shape)
        if runs is None or where.runs.numel() != len(where.head):
            return None
        found = []
        for mixture, values, chosen in ((own, ours, None), (twin, theirs, runs)):
            index = mixture.chain.index(values)
            index = index.movedim(mixture.reader.form.input_axis, -1).flatten(0, -2)
            shape = values[mixture.chain.start.name].shape
            count = torch.arange(int(np.prod(shape)), device=index.device).view(shape)
            numbers = count.permute(mixture.order).flatten(0, -3)  # [runs, rows, width]
            if chosen is not None:
                numbers = numbers[chosen.to(numbers.device)]
            if len(numbers) != len(where.head):
                return None
            # Which input of the reader every number is: the same in all rows of a head.
            place = torch.empty(int(np.prod(shape)), dtype=torch.int64, device=index.device)
            place[index] = torch.arange(index.shape[1], device=index.device).expand_as(index)
            at = place[numbers]
            head = at[where.runs[0], 0]  # [heads, width]
            if not (at == head[where.head][:, None]).all():
                return None
            found.append(head)
        return found[0], found[1]

    def _settle(self, sums: OperandSums, mixed: Moments, ours: Tensor, theirs: Tensor) -> bool:
        """Take directions in the place of channels where they leave less unexplained."""
        own, twin = self.task.mixture.reader, self.task.twin.reader
        weight = twin.form.arrange(twin.weight.tensor.detach().double())[0]
        weight = weight[:, torch.from_numpy(np.flatnonzero(self.outputs)).to(weight.device)]
        weight, theirs = weight.to(mixed.xx), theirs.to(mixed.xx.device)
        mean = (mixed.x / mixed.rows)[0]
        gram = (mixed.xx / mixed.rows)[0] - mean[:, None] * mean
        kept = torch.from_numpy(np.flatnonzero(self.width)).to(theirs.device)
        into, out = _find_directions(gram, weight, theirs, len(kept))
        channels = torch.eye(theirs.shape[1]).to(into)[:, kept].expand_as(into)
        if not _explain(gram, weight, theirs, into) > _explain(gram, weight, theirs, channels):
            return False
        fit = self.side.fit(sums)
        heads = len(theirs)
        full = fit.weight[0].unflatten(1, (heads, -1)).transpose(0, 1)
        bias = fit.bias[0].view(heads, -1)
        every = torch.ones(heads, dtype=torch.bool)
        self.side.write((full @ into, (bias[:, None] @ into)[:, 0]), sums.where, every)
        tensor = own.weight.tensor.detach()
        matrix = own.form.arrange(tensor.double()).clone()
        matrix[0, ours.flatten()] = out.flatten(0, 1).to(matrix)
        tensor.copy_(own.form.restore(matrix, tensor.shape))
        return True


def _find_directions(
    gram: Tensor, weight: Tensor, heads: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the best directions of each head, [heads, width, count], and their reader's weights.

    Args:
        gram: Of all inputs of the reader, about their mean: [inputs, inputs].
        weight: Of the reader: [inputs, outputs].
        heads: Every head's inputs: [heads, width].
        count: Of directions.
    """
    blocks, weights = gram[heads[:, :, None], heads[:, None]], weight[heads]
    root, other, deviations = find_roots(blocks)
    reach = root @ weights
    found = torch.linalg.eigh(reach @ reach.mT)[1].flip(-1)[..., :count]
    size = deviations.square().mean(-1).sqrt()[:, None, None]  # as large as the values were
    return other @ found * size, found.mT @ reach / size.clamp_min(1e-30)


def _explain(gram: Tensor, weight: Tensor, heads: Tensor, into: Tensor) -> float:
    """Return how much of the reader's output is linear in what some directions keep."""
    spread = gram.new_zeros(len(gram), heads.shape[0] * into.shape[2])
    for k, (at, part) in enumerate(zip(heads, into)):
        spread[at, k * into.shape[2] : (k + 1) * into.shape[2]] = part
    inner, cross = spread.mT @ gram @ spread, spread.mT @ gram @ weight
    scale = inner.diagonal().mean().clamp_min(1e-30)
    inner.diagonal().add_(1e-9 * scale)
    return float((cross * torch.linalg.solve(inner, cross)).sum())
