"""Optimal brain surgeon: in which order layers' inputs can go if the layers are refitted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths to choose from, of the mean of the Gram matrix's diagonal."""


@dataclass(frozen=True)
class LinearReader:
    """A layer that reads a Dim.

    Attributes:
        weight: [outputs, columns] of one group, in the metric that counts the outputs' errors.
        gram: [columns, columns]: mean products of the (centred) inputs.
        owner: [columns] int: the Dim's index that a column belongs to, -1 for another's.
        held_out: As gram, of other observations: they choose the ridge.
        written: [outputs] int: the Dim's index that an output belongs to, of a layer that reads its
            own state: what goes as an input goes as an output, too, and has no error any more.
    """

    weight: Tensor
    gram: Tensor
    owner: NDArray[np.int64]
    held_out: Tensor | None = None
    written: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Elimination:
    """The result of `eliminate`.

    Attributes:
        order: The Dim's indices, the first to go first.
        errors: Size -> sum over readers of the mean squared error of their outputs, refitted.
        weights: Size -> the readers' refitted weights, zero at what is removed.
    """

    order: NDArray[np.int64]
    errors: dict[int, float]
    weights: dict[int, tuple[Tensor, ...]]


def eliminate(
    readers: Sequence[LinearReader],
    size: int,
    sizes: Collection[int],
    refit_sizes: Collection[int] = (),
    *,
    ridge: float | None = None,
    order: NDArray[np.int64] | None = None,
) -> Elimination:
    """Remove a Dim's indices one step of sizes after the other, the cheapest first.

    Optimal brain surgeon on whole channels (Hassibi and Stork 1992; ZipLM, arXiv 2302.04089). The
    readers' error (W' - W) H (W' - W)^T with H = gram + ridge * mean(diagonal) is least, with the
    columns J of W' at zero, for W' = W - W_J (H^-1_JJ)^-1 H^-1_J, and rises by
    tr(W_J (H^-1_JJ)^-1 W_J^T). Backward and greedy: from one size to the next below, the cheapest
    indices go together; then all costs are computed anew.

    Args:
        readers: What reads the Dim.
        size: The Dim's indices.
        sizes: Where to stop, below size.
        refit_sizes: Those of sizes at which the refitted weights are kept.
        ridge: Without, each reader gets the one of `RIDGES` whose refit after the loss of half of
            the indices is the best on its held-out observations.
        order: The indices as they go, the first to go first; None: the cheapest first.
    """
    states = [_RefitState(r, size, _choose_ridge(r, size) if ridge is None else ridge)
              for r in readers]  # fmt: skip
    remaining = np.arange(size)
    gone: list[int] = []
    errors, weights = {size: 0.0}, {}
    total = 0.0
    for target in sorted((n for n in sizes if n < size), reverse=True):
        ranked = remaining[_rank(states, remaining)] if order is None else order[len(gone) :]
        removed = ranked[: len(remaining) - target]
        total += sum(state.remove(removed) for state in states)
        gone.extend(removed.tolist())
        remaining = np.setdiff1d(remaining, removed)
        errors[target] = total
        if target in refit_sizes:
            weights[target] = tuple(state.weight.clone() for state in states)
    ranked = remaining[_rank(states, remaining)] if order is None else order[len(gone) :]
    gone.extend(ranked.tolist())
    return Elimination(np.array(gone, np.int64), errors, weights)


def _rank(states: Sequence[_RefitState], remaining: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order the positions of remaining by what these indices cost, the cheapest first."""
    costs = torch.stack([state.estimate_costs(remaining) for state in states]).sum(0)
    return np.asarray(torch.argsort(costs, stable=True).cpu().numpy())


def _choose_ridge(reader: LinearReader, size: int) -> float:
    """Choose by the held-out observations: refits overfit where there are few."""
    if reader.held_out is None or size < 2:
        return 1e-3
    errors = []
    for ridge in RIDGES:
        state = _RefitState(reader, size, ridge)
        state.remove(_rank([state], np.arange(size))[: size // 2])
        change = state.weight - reader.weight
        errors.append(float(((change @ reader.held_out) * change).sum()))
    return RIDGES[int(np.argmin(errors))]


class _RefitState:
    """A reader's weights, refitted to the indices that remain, and its inverse Gram matrix."""

    def __init__(self, reader: LinearReader, size: int, ridge: float) -> None:
        gram = reader.gram.double()
        strength = ridge * gram.diagonal().mean().clamp_min(1e-30)
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        self.inverse = torch.linalg.inv(gram + strength * eye)
        self.weight = reader.weight.double().clone()
        self.columns = [torch.from_numpy(np.flatnonzero(reader.owner == i)) for i in range(size)]
        self.written = reader.written
        self.removed = torch.zeros(0, dtype=torch.int64)
        self.even = len({len(columns) for columns in self.columns}) <= 1

    def estimate_costs(self, indices: NDArray[np.int64]) -> Tensor:
        """Compute by how much the error rises if each of these indices alone goes next."""
        if not self.even:
            return torch.cat([self._estimate(self.columns[i][None]) for i in indices])
        return self._estimate(torch.stack([self.columns[i] for i in indices]))

    def _estimate(self, columns: Tensor) -> Tensor:
        """Map [indices, columns of each] to costs [indices]."""
        if columns.shape[1] == 1:
            flat = columns[:, 0]
            return self.weight[:, flat].square().sum(0) / self.inverse[flat, flat]
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        weight = self.weight[:, columns].movedim(0, 1)  # [indices, outputs, columns]
        return (weight.mT @ weight * torch.linalg.inv(blocks)).sum((1, 2))

    def remove(self, indices: NDArray[np.int64]) -> float:
        """Take these out, refit, and return by how much the error rose."""
        removed = torch.cat([self.columns[i] for i in indices])
        weight = self.weight[:, removed]
        step = torch.linalg.solve(self.inverse[removed][:, removed], self.inverse[removed])
        block = torch.linalg.inv(self.inverse[removed][:, removed])
        rise = float((weight.T @ weight * block).sum())
        self.weight -= weight @ step
        self.inverse -= self.inverse[:, removed] @ step
        self.removed = torch.cat([self.removed, removed])
        self.weight[:, self.removed] = 0.0
        if self.written is not None:
            gone = torch.from_numpy(np.flatnonzero(np.isin(self.written, indices)))
            self.weight[gone.to(self.weight.device)] = 0.0
        return rise
