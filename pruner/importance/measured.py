"""Measured: the loss itself, with a Block bypassed or a Dim cut, instead of an estimate of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..network import Block, Dim
from ..recalibrate import recalibrate
from .fisher import Fisher
from .importance import Importance

Loss = Callable[[Any, Any], Tensor]


class Cuttable(Protocol):
    """What measuring needs of a Network: Dims and Blocks, and the graph that runs."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def dims(self) -> Mapping[str, Dim]: ...
    @property
    def blocks(self) -> Mapping[str, Block]: ...


class Measured(Fisher):
    """Fisher's order within every Dim, and sizes that add up to measured rises of the loss.

    For each Dim, and each of its sizes n, the loss is measured with only the best n indices read
    by their consumers (a network with those reads at zero is the cut network), after
    `recalibrate`; a Block is bypassed. The marginal rises are made monotone (least squares, pool
    adjacent violators), so that a Dim's kept scores sum to the measured curve and its order stays.
    Costs one pass over the batches for every size of every Dim and every Block, two with
    recalibration.
    """

    name = "measured"

    def __init__(self, *, repair: bool = True) -> None:
        super().__init__()
        self.repair = repair

    def refine(
        self,
        net: Cuttable,
        importance: Importance,
        batches: Iterable[tuple[Any, Any]] | None,
        loss: Loss | None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Importance:
        """Put measured sizes in the place of estimated ones."""
        assert batches is not None and loss is not None  # as for every criterion with gradients
        sizes = {name: [n for n in dim.options() if n < dim.size] for name, dim in net.dims.items()}
        total = 1 + sum(map(len, sizes.values())) + len(net.blocks)
        done = 0

        def measure(module: Any) -> float:
            nonlocal done
            value = _loss(module, batches, loss, self.repair)
            done += 1
            if progress is not None:
                progress(done, total)
            return value

        base = measure(copy.deepcopy(net.module))
        parts: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name, dim in net.dims.items():
            score = importance.total(name)
            order = np.argsort(-score, kind="stable")
            rises = [
                measure(unread(net.module, dim, order[size:].tolist())) - base
                for size in sizes[name]
            ]
            values = _spread(dim, order, sizes[name], rises)
            share = {
                cell: np.divide(part, score, out=np.zeros(dim.size), where=score > 0)
                for cell, part in importance.parts[name].items()
            }
            # Indices that no cell speaks for are shared evenly.
            even = np.where(score > 0, 0.0, 1.0 / len(share))
            parts[name] = {cell: values * (s + even) for cell, s in share.items()}
        blocks = {
            name: measure(bypassed(net.module, block)) - base for name, block in net.blocks.items()
        }
        return Importance(self.name, parts, blocks)


def unread(module: nn.Module, dim: Dim, indices: list[int]) -> nn.Module:
    """A copy whose consumers read nothing of these indices; where none reads, nothing writes."""
    result = copy.deepcopy(module)
    tensors = dict(result.named_parameters(remove_duplicate=False))
    reading = [s for s in dim.slots if s.role == "in" and s.tensor in tensors]
    with torch.no_grad():
        for slot in reading or [s for s in dim.slots if s.tensor in tensors]:
            positions = torch.from_numpy(np.flatnonzero(np.isin(slot.owner, indices)))
            tensor = tensors[slot.tensor]
            tensor.index_fill_(slot.axis, positions.to(tensor.device), 0.0)
    return result


def bypassed(module: nn.Module, block: Block) -> nn.Module:
    """A copy of a traced network in which the block's join gives what skips it."""
    assert isinstance(module, fx.GraphModule)
    result = copy.deepcopy(module)
    nodes = {node.name: node for node in result.graph.nodes}
    nodes[block.join].replace_all_uses_with(nodes[block.skip])
    result.graph.eliminate_dead_code()
    result.recompile()
    return result


def _loss(module: nn.Module, batches: Iterable[tuple[Any, Any]], loss: Loss, repair: bool) -> float:
    """Mean over batches, after new statistics from the same batches."""
    device = next(module.parameters()).device
    module.eval()
    if repair:
        recalibrate(module, batches)
    values = []
    with torch.no_grad():
        for inputs, targets in batches:
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            outputs = module(*(x.to(device) for x in arguments))
            targets = targets.to(device) if isinstance(targets, Tensor) else targets
            values.append(float(loss(outputs, targets)))
    return float(np.mean(values))


def _spread(
    dim: Dim, order: NDArray[np.int64], sizes: list[int], rises: list[float]
) -> NDArray[np.float64]:
    """Scores whose sums over the best n indices fall as the measured rises do: [dim size]."""
    # Keeping nothing was not measured: a further step is as bad as the last one.
    ends = np.array([0, *sizes, dim.size])
    known = np.array([*rises, 0.0])
    first = known[0] - known[1] if len(known) > 1 else 0.0
    scale = ends[1] / max(1, ends[2] - ends[1]) if len(ends) > 2 else 1.0
    curve = np.array([known[0] + max(0.0, first) * scale, *known])
    widths = np.diff(ends)
    marginal = np.maximum(0.0, falling(-np.diff(curve) / widths, widths))
    ranked = np.repeat(marginal, widths)
    # Equal scores would lose the order; a millionth of the mean keeps it.
    tilt = 1e-6 * (ranked.mean() or 1.0) * np.linspace(1, 0, dim.size, endpoint=False)
    result = np.empty(dim.size)
    result[order] = ranked + tilt
    return result


def falling(values: NDArray[np.float64], weights: NDArray[Any]) -> NDArray[np.float64]:
    """The closest non-increasing sequence in weighted least squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            b, a = pools.pop(), pools.pop()
            weight = a[1] + b[1]
            pools.append(((a[0] * a[1] + b[0] * b[1]) / weight, weight, a[2] + b[2]))
    return np.concatenate([np.full(length, mean) for mean, _, length in pools])
