"""Least squares from running sums: one fit for every group of a layer, ridge chosen held out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Of the inputs' mean square. Infinity stands for the old weights: no fit at all.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, float("inf"))


@dataclass(frozen=True)
class RidgeFit:
    """y = weight^T x + bias, with what the sums say of the fitted values.

    weight [groups, inputs, outputs], bias, mean, variance [groups, outputs]; ridge the one chosen.
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
        """Rows x [groups, rows, inputs] and y [groups, rows, outputs]."""
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
        """Mean products of x - x0 and y - y0: xx, xy and yy."""
        x, y = self.x / self.rows, self.y / self.rows
        xx = self.xx / self.rows - _outer(x, x0) - _outer(x0, x) + _outer(x0, x0)
        xy = self.xy / self.rows - _outer(x, y0) - _outer(x0, y) + _outer(x0, y0)
        return xx, xy, self.yy / self.rows - 2 * y * y0 + y0.square()


def fit_ridge(train: Moments, held_out: Moments, old: Tensor, *, biased: bool = True) -> RidgeFit:
    """Ridge regression towards the old weights, whose strength the held-out rows choose.

        min over W, b of mean |W^T x + b - y|^2 + ridge * mean |x|^2 / inputs * |W - old|^2

    old is [groups, inputs, outputs]; biased says whether there is a b. Of `RIDGES` the one with the
    least squared error on the held-out rows is taken, and the fit made again on all rows.
    """
    ridge = _best_ridge(train, held_out, old, biased)
    everything = train + held_out
    x0, y0 = _means(everything, biased)
    xx, xy, _ = everything.center_at(x0, y0)
    weight = _solutions(xx, xy, old, (ridge,))[0]
    variance = ((xx @ weight) * weight).sum(1)
    mean = everything.x / everything.rows
    bias = y0 - (x0[:, None] @ weight)[:, 0]
    return RidgeFit(
        weight, bias, (mean[:, None] @ weight)[:, 0] + bias, variance.clamp_min(0), ridge
    )


def _best_ridge(train: Moments, held_out: Moments, old: Tensor, biased: bool) -> float:
    if not held_out.rows or not train.rows:
        return 1e-3
    x0, y0 = _means(train, biased)
    xx, xy, _ = train.center_at(x0, y0)
    their_xx, their_xy, _ = held_out.center_at(x0, y0)
    errors = [
        float((((their_xx @ w) - 2 * their_xy) * w).sum()) for w in _solutions(xx, xy, old, RIDGES)
    ]
    return RIDGES[min(range(len(RIDGES)), key=errors.__getitem__)]


def _means(moments: Moments, biased: bool) -> tuple[Tensor, Tensor]:
    x, y = moments.x / moments.rows, moments.y / moments.rows
    return (x, y) if biased else (torch.zeros_like(x), torch.zeros_like(y))


def _solutions(xx: Tensor, xy: Tensor, old: Tensor, ridges: tuple[float, ...]) -> list[Tensor]:
    """The fit at every ridge, from one decomposition."""
    values, vectors = torch.linalg.eigh(xx)
    values = values.clamp_min(0)
    unit = values.mean(1, keepdim=True).clamp_min(1e-30)
    turned = vectors.mT @ (xy - xx @ old)
    found = []
    for ridge in ridges:
        if ridge == float("inf"):
            found.append(old)
            continue
        found.append(old + vectors @ (turned / (values + ridge * unit)[..., None]))
    return found


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]
