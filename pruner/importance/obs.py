"""Eliminate: in which order the inputs of layers can go if the layers are refitted to the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class LinearReader:
    """A layer that reads a Dim.

    weight
        [outputs, columns] of one group, in whatever metric the outputs' errors are to be counted.
    gram
        [columns, columns]: mean products of the (centred) inputs.
    owner
        [columns] int: the Dim's index that a column belongs to, -1 for another's.
    held_out
        As gram, of other observations: they choose the ridge.
    """

    weight: Tensor
    gram: Tensor
    owner: NDArray[np.int64]
    held_out: Tensor | None = None


@dataclass(frozen=True)
class Elimination:
    """order
        The Dim's indices, the first to go first.
    errors
        Size -> sum over readers of the mean squared error of what they compute, refitted.
    weights
        Size -> the readers' refitted weights, zero at what is gone.
    """

    order: NDArray[np.int64]
    errors: dict[int, float]
    weights: dict[int, tuple[Tensor, ...]]


def eliminate(
    readers: Sequence[LinearReader],
    size: int,
    sizes: Collection[int],
    wanted: Collection[int] = (),
    *,
    ridge: float | None = None,
) -> Elimination:
    """Optimal brain surgeon on whole channels (Hassibi and Stork 1992; ZipLM, arXiv 2302.04089).

    The readers' error (W' - W) H (W' - W)^T with H = gram + ridge * mean(diagonal) is least, with
    the columns J of W' at zero, for W' = W - W_J (H^-1_JJ)^-1 H^-1_J, and rises by
    tr(W_J (H^-1_JJ)^-1 W_J^T). Backward and greedy: from one size to the next below, the cheapest
    indices go together; then all costs are computed anew.

    sizes are those to stop at, below size; at those of wanted the weights are noted. Without ridge
    every reader gets, of `RIDGES`, the one whose refit after the loss of half of the indices is the
    best on its held-out observations.
    """
    states = [_State(r, size, _ridge(r, size) if ridge is None else ridge) for r in readers]
    left = np.arange(size)
    order: list[int] = []
    errors, weights = {size: 0.0}, {}
    total = 0.0
    for goal in sorted((n for n in sizes if n < size), reverse=True):
        costs = torch.stack([state.costs(left) for state in states]).sum(0)
        cheapest = torch.argsort(costs, stable=True)[: len(left) - goal].cpu().numpy()
        gone = left[cheapest]
        total += sum(state.remove(gone) for state in states)
        order.extend(gone.tolist())
        left = np.setdiff1d(left, gone)
        errors[goal] = total
        if goal in wanted:
            weights[goal] = tuple(state.weight.clone() for state in states)
    costs = torch.stack([state.costs(left) for state in states]).sum(0)
    order.extend(left[torch.argsort(costs, stable=True).cpu().numpy()].tolist())
    return Elimination(np.array(order, np.int64), errors, weights)


RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def _ridge(reader: LinearReader, size: int) -> float:
    """Refits overfit where there are few observations: the held-out ones tell."""
    if reader.held_out is None or size < 2:
        return 1e-3
    errors = []
    for ridge in RIDGES:
        state = _State(reader, size, ridge)
        costs = state.costs(np.arange(size))
        state.remove(torch.argsort(costs, stable=True)[: size // 2].cpu().numpy())
        lost = state.weight - reader.weight
        errors.append(float(((lost @ reader.held_out) * lost).sum()))
    return RIDGES[int(np.argmin(errors))]


class _State:
    """A reader's weights and inverse Gram matrix, of what is left."""

    def __init__(self, reader: LinearReader, size: int, ridge: float) -> None:
        gram = reader.gram.double()
        strength = ridge * gram.diagonal().mean().clamp_min(1e-30)
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        self.inverse = torch.linalg.inv(gram + strength * eye)
        self.weight = reader.weight.double().clone()
        places = [np.flatnonzero(reader.owner == i) for i in range(size)]
        width = max(map(len, places), default=0)
        self.columns = [torch.from_numpy(p) for p in places]
        self.gone = torch.zeros(0, dtype=torch.int64)
        self.even = all(len(p) == width for p in places)

    def costs(self, left: NDArray[np.int64]) -> Tensor:
        """What each of these indices costs if it alone goes next."""
        if not self.even:
            return torch.stack([self._cost(self.columns[i][None])[0] for i in left])
        return self._cost(torch.stack([self.columns[i] for i in left]))

    def _cost(self, columns: Tensor) -> Tensor:
        """columns [indices, columns of each] -> [indices]."""
        if columns.shape[1] == 1:
            flat = columns[:, 0]
            return self.weight[:, flat].square().sum(0) / self.inverse[flat, flat]
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        weight = self.weight[:, columns].movedim(0, 1)  # [indices, outputs, columns]
        return (weight.mT @ weight * torch.linalg.inv(blocks)).sum((1, 2))

    def remove(self, indices: NDArray[np.int64]) -> float:
        """Take these out, refit, and return by how much the error rose."""
        gone = torch.cat([self.columns[i] for i in indices])
        weight = self.weight[:, gone]
        step = torch.linalg.solve(self.inverse[gone][:, gone], self.inverse[gone])
        rise = float((weight.T @ weight * torch.linalg.inv(self.inverse[gone][:, gone])).sum())
        self.weight -= weight @ step
        self.inverse -= self.inverse[:, gone] @ step
        self.gone = torch.cat([self.gone, gone])
        self.weight[:, self.gone] = 0.0
        return rise
