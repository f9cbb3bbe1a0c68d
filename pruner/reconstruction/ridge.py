"""Ridge regression from running sums, one for every group of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PrunerError

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, float("inf"))
"""Strengths to choose from, in the inputs' mean square; infinity keeps the old weights."""


@dataclass(frozen=True)
class RidgeFit:
    """A fit y = weight^T x + bias, and the statistics of its outputs on the rows fitted.

    ``weight`` [groups, inputs, outputs]; ``bias``, and ``mean`` and ``variance`` of the outputs
    [groups, outputs]; ``ridge`` is the strength chosen.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    ridge: float


class Moments:
    """Sums of x, y, x x^T, x y^T and y^2 over rows, in double precision: [groups, ...]."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64)

        self.rows = 0
        self.x, self.y, self.yy = zeros(inputs), zeros(outputs), zeros(outputs)
        self.xx, self.xy = zeros(inputs, inputs), zeros(inputs, outputs)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows x [groups, rows, inputs] and y [groups, rows, outputs] to the sums."""
        self.rows += x.shape[1]
        # Products in the data's own precision, of one batch; the sums over batches in double.
        self.xx += x.mT @ x
        self.xy += x.mT @ y
        self.x += x.sum(1)
        self.y += y.sum(1)
        self.yy += y.square().sum(1)

    def __add__(self, other: Moments) -> Moments:
        total = Moments(*self.xy.shape)
        for name in ("rows", "x", "y", "yy", "xx", "xy"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def center_at(self, x0: Tensor, y0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean products xx, xy and yy of x - x0 and y - y0."""
        x, y = self.x / self.rows, self.y / self.rows
        xx = self.xx / self.rows - _outer(x, x0) - _outer(x0, x) + _outer(x0, x0)
        xy = self.xy / self.rows - _outer(x, y0) - _outer(x0, y) + _outer(x0, y0)
        return xx, xy, self.yy / self.rows - 2 * y * y0 + y0.square()


def fit_ridge(train: Moments, held_out: Moments, old: Tensor, *, biased: bool = True) -> RidgeFit:
    """Fit by ridge regression towards the old weights, with a strength that held-out rows choose.

        min over W, b of mean |W^T x + b - y|^2 + ridge * mean |x|^2 / inputs * |W - old|^2

    Args:
        train: Rows that each of `RIDGES` is fitted on.
        held_out: Rows whose squared error chooses one of them; the fit is made again on all rows.
        old: Weights [groups, inputs, outputs] from before the cut.
        biased: Whether there is a b.
    """
    ridge = _choose_ridge(train, held_out, old, biased)
    everything = train + held_out
    x0, y0 = _compute_means(everything, biased)
    xx, xy, _ = everything.center_at(x0, y0)
    weight = _solve_ridges(xx, xy, old, (ridge,))[0]
    variance = ((xx @ weight) * weight).sum(1)
    bias = y0 - (x0[:, None] @ weight)[:, 0]
    mean = ((everything.x / everything.rows)[:, None] @ weight)[:, 0] + bias
    return RidgeFit(weight, bias, mean, variance.clamp_min(0), ridge)


def _choose_ridge(train: Moments, held_out: Moments, old: Tensor, biased: bool) -> float:
    if not held_out.rows or not train.rows:
        return 1e-3
    x0, y0 = _compute_means(train, biased)
    xx, xy, _ = train.center_at(x0, y0)
    held_xx, held_xy, _ = held_out.center_at(x0, y0)
    errors = [
        float((((held_xx @ w) - 2 * held_xy) * w).sum()) for w in _solve_ridges(xx, xy, old, RIDGES)
    ]
    return RIDGES[min(range(len(RIDGES)), key=errors.__getitem__)]


def _compute_means(moments: Moments, biased: bool) -> tuple[Tensor, Tensor]:
    """Return the means of x and y; zeros where there is no bias to take them up."""
    x, y = moments.x / moments.rows, moments.y / moments.rows
    return (x, y) if biased else (torch.zeros_like(x), torch.zeros_like(y))


def _solve_ridges(xx: Tensor, xy: Tensor, old: Tensor, ridges: tuple[float, ...]) -> list[Tensor]:
    """Return the weights at every ridge, from one eigendecomposition of xx."""
    try:
        values, vectors = torch.linalg.eigh(xx)
    except torch.linalg.LinAlgError as error:
        if xx.isfinite().all():
            raise
        raise PrunerError(
            "the values that a layer reads are not finite: the samples or the network hold NaN or "
            "infinity"
        ) from error
    values = values.clamp_min(0)
    unit = values.mean(1, keepdim=True).clamp_min(1e-30)
    rotated = vectors.mT @ (xy - xx @ old)
    return [
        old + vectors @ (rotated / (values + ridge * unit)[..., None])
        if ridge < float("inf")
        else old
        for ridge in ridges
    ]


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]
