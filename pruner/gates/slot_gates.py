"""Gates on single parameters: each index of a Dim multiplies what slots hold of it.

Parameters are linear in the gates g of an index's elements w_i, so that derivatives by them at one
are sums over these elements:

    dL/dg = sum(w_i * dL/dw_i)        d2L/dg dh = w_i^T H w_j    (h: the gate of j)

Both are `differentiate_gates`, of the gradient and of the product of the Hessian H with a direction
that `spread_gates` has laid out.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import PrunerError


def spread_gates(owner: NDArray[np.int64], gates: Tensor, others: float = 1.0) -> Tensor:
    """Give each position of an axis the number of its index: [axis size].

    Args:
        owner: [axis size]: the index of each position, -1 where it has none.
        gates: [indices].
        others: The number of positions that have no index.
    """
    index = torch.as_tensor(np.asarray(owner, np.int64))
    spread = gates[index.clamp(min=0).to(gates.device)]
    return torch.where((index >= 0).to(gates.device), spread, spread.new_full((), others))


def gate_parameter(parameter: Tensor, axis: int, spread: Tensor) -> Tensor:
    """Multiply a parameter along an axis by what `spread_gates` gives, in the parameter's type."""
    shape = [1] * parameter.ndim
    shape[axis] = -1
    return parameter * spread.to(parameter).reshape(shape)


def differentiate_gates(parameter: Tensor, gradient: Tensor | None, axis: int) -> Tensor:
    """Compute the derivative by a gate on every position of an axis: float64 [axis size].

    Gradient: of the loss by the parameter, or H times a direction; None stands for zeros.
    """
    return sum_to_axis(parameter * (0 if gradient is None else gradient), axis)


def sum_to_axis(values: Tensor, axis: int) -> Tensor:
    """Sum in double precision over all axes but one: float64 [axis size]."""
    values = values.double()
    return values.movedim(axis, 0).flatten(1).sum(1) if values.ndim > 1 else values


def fold_positions(values: Tensor, owner: np.ndarray, size: int) -> Tensor:
    """Sum positions onto the indices that own them: [n, axis size] -> [n, size]; -1 owns none."""
    if values.ndim != 2 or values.shape[1] != len(owner):
        raise PrunerError(
            f"a criterion gave contributions of shape {tuple(values.shape)}; "
            f"expected (n, {len(owner)})"
        )
    index = torch.as_tensor(np.asarray(owner, np.int64))
    kept = index >= 0
    return values.new_zeros(len(values), size).index_add_(1, index[kept], values[:, kept])
