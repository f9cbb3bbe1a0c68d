"""Least squares that a few outliers do not move."""

from collections.abc import Sequence

import numpy as np

from .basis import Floats

_REWEIGHTINGS = 3


def solve_robustly(matrix: Floats, target: Floats, ridge: Sequence[float]) -> Floats:
    """Solve ``matrix`` [n, k] for ``target`` [n] with Huber's weights and a diagonal ridge [k]."""
    weight = np.ones(len(target))
    solution: Floats = np.zeros(matrix.shape[1])
    for _ in range(_REWEIGHTINGS):
        rows = matrix * np.sqrt(weight)[:, None]
        right = rows.T @ (target * np.sqrt(weight))
        solution = np.linalg.solve(rows.T @ rows + np.diag(ridge), right)
        weight = huber_weights(target - matrix @ solution)
    return solution


def huber_weights(residual: Floats) -> Floats:
    """Weigh by 1 within two robust standard deviations, by less beyond; all 1 without spread."""
    spread = 1.4826 * float(np.median(np.abs(residual)))
    if spread == 0:
        return np.ones(len(residual))
    weight: Floats = np.minimum(1.0, 2 * spread / np.maximum(np.abs(residual), 1e-12))
    return weight
