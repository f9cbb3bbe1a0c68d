"""Reductions over gated axes: sums, extremes, norms, counts; see `pruner.gates.weighted`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .weighted import (
    AxisGates,
    combine_gates,
    find_closed,
    gate_logsumexp,
    gate_mean,
    gate_var_mean,
)


def gate_reduction(
    x: Tensor, gates: AxisGates, kind: str, dims: Sequence[int], keepdim: bool,
    setting: Any = None, dtype: torch.dtype | None = None, several: bool = False,
) -> Any:  # fmt: skip
    """Reduce over axes as the operator of this name does, weighted by the gates.

    Args:
        x: What is reduced.
        gates: Of some of the axes that are reduced over.
        kind: The operator's name, a key of `REDUCERS`.
        dims: All axes that are reduced over, counted from the front.
        keepdim: Whether they stay, of size one.
        setting: The order of a norm, the correction of a variance.
        dtype: What x is cast to before.
        several: Whether the operator gives more than its value (where an extreme is), of which
            the value alone is read.
    """
    result = REDUCERS[kind](
        x if dtype is None else x.to(dtype), gates, tuple(dims), keepdim, setting
    )
    return (result,) if several and isinstance(result, Tensor) else result


def _sum(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    if not x.is_floating_point() and not x.is_complex():  # counts: there is no derivative
        return (x * ~find_closed(x, gates)).sum(tuple(dims), keepdim=keepdim)
    return (x * combine_gates(x, gates)).sum(tuple(dims), keepdim=keepdim)


def _nansum(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    return _sum(x.where(~x.isnan(), 0), gates, dims, keepdim, None)


def _mean(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    return gate_mean(x, gates, dims, keepdim)


def _var_mean(
    x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, correction: float
) -> tuple[Tensor, Tensor]:
    return gate_var_mean(x, gates, dims, keepdim, correction)


def _var(
    x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, correction: float
) -> Tensor:
    return gate_var_mean(x, gates, dims, keepdim, correction)[0]


def _std(
    x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, correction: float
) -> Tensor:
    return gate_var_mean(x, gates, dims, keepdim, correction)[0].sqrt()


def _std_mean(
    x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, correction: float
) -> tuple[Tensor, Tensor]:
    variance, mean = gate_var_mean(x, gates, dims, keepdim, correction)
    return variance.sqrt(), mean


def _max(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    """Return the largest of all, each lowered to the smallest by as much as its gate is closed."""
    if not x.is_floating_point():
        lowest = 0 if x.dtype == torch.bool else torch.iinfo(x.dtype).min
        return x.masked_fill(find_closed(x, gates), lowest).amax(tuple(dims), keepdim=keepdim)
    least = x.amin(tuple(dims), keepdim=True)
    lowered = torch.lerp(least, x, combine_gates(x, gates))
    return lowered.amax(tuple(dims), keepdim=keepdim)


def _min(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    if not x.is_floating_point():
        highest = 1 if x.dtype == torch.bool else torch.iinfo(x.dtype).max
        return x.masked_fill(find_closed(x, gates), highest).amin(tuple(dims), keepdim=keepdim)
    return -_max(-x, gates, dims, keepdim, None)


def _min_and_max(
    x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any
) -> tuple[Tensor, Tensor]:
    return _min(x, gates, dims, keepdim, None), _max(x, gates, dims, keepdim, None)


def _logsumexp(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    return gate_logsumexp(x, gates, dims, keepdim)


def _norm(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, order: Any) -> Tensor:
    """Return (sum of gate * |x|^p)^(1 / p); of p = 0 and infinity what it tends to."""
    order = float(2 if order is None else order)
    if order in (torch.inf, -torch.inf):
        reduce = _max if order > 0 else _min
        return reduce(x.abs(), gates, dims, keepdim, None)
    if order == 0:
        return _sum((x != 0).to(x.abs().dtype), gates, dims, keepdim, None)
    return take_root(_sum(x.abs().pow(order), gates, dims, keepdim, None), order)


def take_root(total: Tensor, order: float) -> Tensor:
    """Return total^(1 / order), at zero with a derivative of zero as torch's norms have."""
    zero = total == 0
    return total.masked_fill(zero, 1).pow(1 / order).masked_fill(zero, 0)


def _prod(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    """Return the product of all, each moved to one by as much as its gate is closed."""
    if x.is_floating_point():
        x = 1 + (x - 1) * combine_gates(x, gates)
    else:
        x = x.masked_fill(find_closed(x, gates), 1)
    for d in sorted(dims, reverse=True):
        x = x.prod(d, keepdim=keepdim)
    return x


def _any(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    return ((x != 0) & ~find_closed(x, gates)).any(tuple(dims), keepdim=keepdim)


def _all(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    return ((x != 0) | find_closed(x, gates)).all(tuple(dims), keepdim=keepdim)


def _count(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, _: Any) -> Tensor:
    return ((x != 0) & ~find_closed(x, gates)).sum(tuple(dims), keepdim=keepdim)


REDUCERS: dict[str, Callable[..., Any]] = {
    "sum": _sum, "nansum": _nansum, "mean": _mean, "var": _var, "std": _std, "var_mean": _var_mean,
    "std_mean": _std_mean, "amax": _max, "max": _max, "amin": _min, "min": _min,
    "aminmax": _min_and_max, "logsumexp": _logsumexp, "linalg_vector_norm": _norm, "norm": _norm,
    "prod": _prod, "any": _any, "all": _all, "count_nonzero": _count,
}  # fmt: skip
"""Operator -> the function (x, gates, dims, keepdim, setting) that does so with gates."""


def gate_cdist(x: Tensor, y: Tensor, gate: Tensor, order: float) -> Tensor:
    """Return the distances [..., m, n] of rows [..., m, k] and [..., n, k] over gated k."""
    apart = x[..., :, None, :] - y[..., None, :, :]
    gates = [(apart.dim() - 1, gate)]
    return _norm(apart, gates, (apart.dim() - 1,), False, order)
