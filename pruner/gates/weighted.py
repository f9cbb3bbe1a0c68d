"""What runs along an axis, with a number on each of its positions as its weight.

At ones every function is torch's own of the same name; at zeros and ones it gives what torch's own
gives on the positions at one, and is differentiable by every number in between. Positions at zero
may hold anything finite. ``gates`` are pairs (axis, [size of the axis]) for some of the axes that
are worked along.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

AxisGates: TypeAlias = Sequence[tuple[int, Tensor]]
"""Pairs of an axis and the gates of its positions."""


def view_along(gate: Tensor, rank: int, axis: int) -> Tensor:
    """Return the gates of an axis as a tensor of a rank, of size one in all others."""
    return gate.reshape([-1 if d == axis else 1 for d in range(rank)])


def gate_positions(x: Tensor, gates: AxisGates) -> Tensor:
    """Multiply every position of axes by its gate."""
    for axis, gate in gates:
        x = x * view_along(gate if x.is_complex() else gate.to(x.dtype), x.dim(), axis)
    return x


def gate_branch(skip: Tensor, branch: Tensor, gate: Tensor, sign: float = 1) -> Tensor:
    """Return skip + sign * gate * branch; the gate is a scalar tensor."""
    if skip.dtype == branch.dtype == gate.dtype:
        return torch.addcmul(skip, branch, gate, value=sign)
    return torch.add(skip, branch * gate, alpha=sign)


def combine_gates(x: Tensor, gates: AxisGates) -> Tensor:
    """Return the product of the gates of all axes, to be broadcast with x."""
    first, *others = (view_along(gate.to(x.dtype), x.dim(), axis) for axis, gate in gates)
    for other in others:
        first = first * other
    return first


def find_closed(x: Tensor, gates: AxisGates) -> Tensor:
    """Return bool, to be broadcast with x: the positions whose gate is zero."""
    first, *others = (view_along(gate == 0, x.dim(), axis) for axis, gate in gates)
    for other in others:
        first = first | other
    return first


def count_weight(x: Tensor, gates: AxisGates, dims: Iterable[int]) -> Tensor:
    """Return the sum of the gates over these axes; an axis without gates counts its positions."""
    by_axis = dict(gates)
    total = gates[0][1].new_ones(())
    for d in dims:
        total = total * (by_axis[d].sum() if d in by_axis else x.shape[d])
    return total.to(x.dtype if x.is_floating_point() else total.dtype)


def gate_mean(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool) -> Tensor:
    """Return the mean over axes, weighted."""
    weights = combine_gates(x, gates) / count_weight(x, gates, dims)
    last = len(dims) == 1 and dims[0] == x.dim() - 1
    if last and not torch.is_autocast_enabled(x.device.type):  # it would lose digits of a product
        mean = x @ weights.reshape(-1)
        return mean[..., None] if keepdim else mean
    return (x * weights).sum(tuple(dims), keepdim=keepdim)


def gate_var_mean(
    x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool, correction: float = 0
) -> tuple[Tensor, Tensor]:
    """Return variance and mean over axes, weighted; divided by the sum of weights - correction."""
    mean = gate_mean(x, gates, dims, True)
    squares = (x - mean).square()
    variance = gate_mean(squares, gates, dims, True)
    if correction:
        total = count_weight(x, gates, dims)
        variance = variance * (total / (total - correction).clamp(min=0))
    if keepdim:
        return variance, mean
    shape = [n for d, n in enumerate(mean.shape) if d not in dims]
    return variance.reshape(shape), mean.reshape(shape)


def gate_layer_norm(
    x: Tensor, gates: AxisGates, dims: Sequence[int], weight: Tensor | None, bias: Tensor | None,
    eps: float,
) -> Tensor:  # fmt: skip
    """Normalize over the last axes with weighted statistics, scale and shift."""
    wide = _widen(x)
    centered = wide - gate_mean(wide, gates, dims, True)
    variance = gate_mean(centered.square(), gates, dims, True)
    return _scale(centered * torch.rsqrt(variance + eps), weight, bias).to(x.dtype)


def gate_rms_norm(
    x: Tensor, gates: AxisGates, dims: Sequence[int], weight: Tensor | None, eps: float | None
) -> Tensor:
    """Divide by the weighted root mean square over the last axes and scale."""
    wide = _widen(x)
    eps = torch.finfo(wide.dtype).eps if eps is None else eps
    square = gate_mean(wide.square(), gates, dims, True)
    return _scale(wide * torch.rsqrt(square + eps), weight, None).to(x.dtype)


def gate_group_norm(
    x: Tensor, gate: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize groups of channels [N, C, ...] with the gates [C / groups] that they all have."""
    wide = _widen(x).reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    centered = wide - gate_mean(wide.mean(3, keepdim=True), [(2, gate)], (2,), True)
    variance = gate_mean(centered.square().mean(3, keepdim=True), [(2, gate)], (2,), True)
    result = (centered * torch.rsqrt(variance + eps)).reshape(x.shape)
    weight, bias = (t if t is None else view_along(t, x.dim(), 1) for t in (weight, bias))
    return _scale(result, weight, bias).to(x.dtype)


def gate_batch_norm(
    x: Tensor, gates: AxisGates, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Standardize every channel of axis 1 by its own weighted statistics, as weights are."""
    wide = _widen(x)
    variance, mean = gate_var_mean(wide, gates, (0, *range(2, x.dim())), True)
    weight, bias = (t if t is None else view_along(t, x.dim(), 1) for t in (weight, bias))
    return _scale((wide - mean) * torch.rsqrt(variance + eps), weight, bias).to(x.dtype)


def gate_softmax(
    x: Tensor, gates: AxisGates, dim: int, log: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    """Return exp(x) / sum of gate * exp(x), or its logarithm.

    What reads the result multiplies by the gate once, as it does everywhere.
    """
    x = x if dtype is None else x.to(dtype)
    shifted, top, total = _sum_exponentials(x, gates, (dim,))
    if log:
        return x - top - total.log()
    return shifted.exp() / total


def gate_logsumexp(x: Tensor, gates: AxisGates, dims: Sequence[int], keepdim: bool) -> Tensor:
    """Return the logarithm of the sum of gate * exp(x) over axes."""
    _, top, total = _sum_exponentials(x, gates, tuple(dims))
    result = top + total.log()
    return result if keepdim else _squeeze(result, dims)


def _sum_exponentials(
    x: Tensor, gates: AxisGates, dims: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x less the largest of what is open, that, and the weighted sum of exponentials."""
    top = x.detach().masked_fill(find_closed(x, gates), -torch.inf).amax(dims, keepdim=True)
    # what is closed may be larger than all that is open: its exponential must not be infinite
    shifted = (x - top).clamp(max=math.log(torch.finfo(x.dtype).max) / 2)
    return shifted, top, (shifted.exp() * combine_gates(x, gates)).sum(dims, keepdim=True)


def _squeeze(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.reshape([n for d, n in enumerate(x.shape) if d not in dims])


def _widen(x: Tensor) -> Tensor:
    """Return half-precision numbers in single precision, in which norms are computed."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _scale(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is None:
        return x if bias is None else x + bias
    return x * weight if bias is None else torch.addcmul(bias, x, weight)
