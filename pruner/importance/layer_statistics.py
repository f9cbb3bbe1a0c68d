"""Study: what one pass of the dense network says of what reads each Dim and skips each Block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..axes import atoms_of
from ..graph import (
    Block,
    StagedExecution,
    batch_norm_scale,
    effective_weight,
    find_batch_norm_after,
    get_layer,
    is_ungrouped,
    producer_of,
)
from ..reconstruction import (
    Moments,
    draw_positions,
    fit_ridge,
    holdout_mask,
    sample_inputs,
    split_groups,
)
from ..structure import Dim, Network, Slot
from ..utils import make_generator
from .obs import Elimination, LinearReader, eliminate

CHUNK = 10


@dataclass(frozen=True)
class ReaderStatistics:
    """One plain layer that reads a Dim.

    node is the layer's call and norm the batch norm right behind it or None; slot the weight's
    axis. mean [inputs] and gram [inputs, inputs] are of what flows in, at all places of the kernel,
    gram about the mean where the layer or its norm can take a shift; held_out the same, about the
    same mean, of other images (None: there are none). scale [outputs] is the norm's.
    """

    node: fx.Node
    norm: fx.Node | None
    slot: Slot
    mean: Tensor
    gram: Tensor
    held_out: Tensor | None
    scale: Tensor

    def weight(self, module: nn.Module) -> Tensor:
        """[outputs, inputs * kernel], behind the norm's scale."""
        return effective_weight(module, self.node).flatten(1)

    def reader(self, module: nn.Module) -> LinearReader:
        """As `pruner.elimination` wants it."""
        weight = self.weight(module)
        owner = np.repeat(self.slot.owner, weight.shape[1] // len(self.slot.owner))
        return LinearReader(weight, self.gram, owner, self.held_out)

    def changed(self, module: nn.Module, weight: Tensor) -> dict[str, Tensor]:
        """Tensors by name that give the layer this weight, and the mean output that it had."""
        name = str(self.node.target)
        layer = module.get_submodule(name)
        old = layer.weight
        assert isinstance(old, Tensor)
        shift = (self.weight(module) - weight) @ self.mean
        result = {f"{name}.weight": (weight / self.scale[:, None]).reshape(old.shape).to(old)}
        bias = f"{name if self.norm is None else self.norm.target}.bias"
        if self.norm is not None or layer.bias is not None:
            old_bias = module.get_parameter(bias).detach()
            result[bias] = (old_bias.double() + shift).to(old_bias)
        return result


@dataclass(frozen=True)
class CalibrationStatistics:
    """The network; what reads each Dim; moments of (skip, join) of each Block."""

    net: Network
    readings: Mapping[str, Sequence[ReaderStatistics]]
    joins: Mapping[str, Sequence[Moments]]

    def eliminate(self, dim: Dim, wanted: Sequence[int] = ()) -> Elimination:
        """The order in which a Dim's indices go, and its readers' errors at every option.

        Where no plain layer reads the Dim (queries and keys), the smallest writers go first, and
        the error is the sum of their squares.
        """
        readings = self.readings[dim.name]
        if readings:
            readers = [r.reader(self.net.module) for r in readings]
            return eliminate(readers, dim.size, dim.options(), wanted)
        tensors = dict(self.net.module.named_parameters(remove_duplicate=False))
        total = np.zeros(dim.size)
        for slot in dim.slots:
            if slot.tensor in tensors and slot.role == "out":
                rows = tensors[slot.tensor].detach().double().movedim(slot.axis, 0)
                power = rows.reshape(len(rows), -1).square().sum(1).cpu().numpy()
                mine = slot.owner >= 0
                np.add.at(total, slot.owner[mine], power[mine])
        order = np.argsort(total, kind="stable")
        lost = np.concatenate([[0.0], np.cumsum(total[order])])
        return Elimination(order, {n: float(lost[dim.size - n]) for n in dim.options()}, {})

    def cut(self, dim: Dim, found: Elimination, size: int) -> dict[str, Tensor]:
        """Tensors by name with which nothing reads what goes at this size (one of wanted)."""
        module = self.net.module
        if size in found.weights:
            changes: dict[str, Tensor] = {}
            for reading, weight in zip(self.readings[dim.name], found.weights[size], strict=True):
                changes.update(reading.changed(module, weight))
            return changes
        tensors = dict(module.named_parameters(remove_duplicate=False))
        changes = {}
        for slot in dim.slots:
            if slot.tensor in tensors and slot.role == "out":
                gone = np.isin(slot.owner, found.order[: dim.size - size])
                at = torch.from_numpy(np.flatnonzero(gone))
                old = changes.get(slot.tensor, tensors[slot.tensor].detach())
                changes[slot.tensor] = old.clone().index_fill_(slot.axis, at.to(old.device), 0.0)
        return changes

    def bypass(self, block: Block) -> tuple[float, Tensor, Tensor]:
        """The best linear map from a Block's skip to its join: error, weight [in, out], bias.

        The error weighs a channel by what the layers that read its Dim make of it on average.
        """
        train, held_out = self.joins[block.name]
        channels = train.xy.shape[1]
        found = fit_ridge(train, held_out, torch.eye(channels, dtype=torch.float64)[None])
        everything = train + held_out
        x0, y0 = everything.x / everything.rows, everything.y / everything.rows
        xx, xy, yy = everything.about(x0, y0)
        error = yy[0] + ((xx[0] @ found.weight[0] - 2 * xy[0]) * found.weight[0]).sum(0)
        error = error.clamp_min(0) @ self._weights(block, channels)
        return float(error), found.weight[0], found.bias[0]

    def _weights(self, block: Block, channels: int) -> Tensor:
        node = next(n for n in self.net.program.graph.nodes if n.name == block.join)
        mine = {a for axis in self.net.axis_map.axes[node] for a in atoms_of(axis)}
        total, readers = torch.zeros(channels, dtype=torch.float64), 0
        for name, readings in self.readings.items():
            if self.net.atoms[name] in mine and self.net.dims[name].size == channels:
                for reading in readings:
                    power = reading.weight(self.net.module).square().sum(0)
                    if len(power) % channels == 0:
                        total += power.reshape(channels, -1).sum(1)
                        readers += 1
        return total / readers if readers else total + 1.0


def collect_statistics(
    net: Network, batches: Iterable[tuple[Any, Any]], places: int
) -> CalibrationStatistics:
    """Run the dense network over the batches; every fifth image is held out to choose ridges.

    It sees `CHUNK` images at a time, since the values of all layers are held at once.
    """
    inputs = [
        part
        for x in inputs_of(net.module, batches)
        for part in zip(*(a.split(CHUNK) for a in x), strict=True)
    ]
    net.module.eval()
    calls = _plain_calls(net.module)
    slots = {
        name: [s for s in dim.slots if s.role == "in" and s.tensor in calls]
        for name, dim in net.dims.items()
    }
    used = {s.tensor: calls[s.tensor] for found in slots.values() for s in found}
    names = {n.name for node in used.values() for n in (node, producer_of(node))}
    names.update(name for b in net.blocks.values() for name in (b.skip, b.join))
    sums: dict[str, list[Moments]] = {}
    joins: dict[str, list[Moments]] = {}
    with torch.no_grad():
        for k, values in enumerate(StagedExecution(net.module, inputs).values(names)):
            for tensor, node in used.items():
                layer: Any = net.module.get_submodule(str(node.target))
                x, y = values[producer_of(node).name], values[node.name]
                rows = sample_inputs(layer, x, y.shape, draw_positions(layer, y, places, tensor, k))
                for part, some in zip(
                    sums.setdefault(tensor, [Moments(1, rows[0, 0].numel(), 0) for _ in "ab"]),
                    _folds(rows),
                    strict=True,
                ):
                    flat = split_groups(some, 1)
                    part.add(flat, flat[..., :0])
            for name, block in net.blocks.items():
                x, y = (_flat(values[n], places, make_generator("places", name, k))
                        for n in (block.skip, block.join))  # fmt: skip
                both = joins.setdefault(name, [Moments(1, x.shape[-1], y.shape[-1]) for _ in "ab"])
                for part, xs, ys in zip(both, _folds(x), _folds(y), strict=True):
                    part.add(split_groups(xs, 1), split_groups(ys, 1))
    readings = {
        name: [_reading(net.module, calls[s.tensor], s, sums[s.tensor]) for s in found]
        for name, found in slots.items()
    }
    return CalibrationStatistics(net, readings, joins)


def inputs_of(module: nn.Module, batches: Iterable[tuple[Any, Any]]) -> list[tuple[Tensor, ...]]:
    """The batches' arguments on the module's device."""
    device = next(module.parameters()).device
    return [tuple(a.to(device) for a in (x if isinstance(x, tuple) else (x,))) for x, _ in batches]


def _plain_calls(module: fx.GraphModule) -> dict[str, fx.Node]:
    """Weight's name -> call of the ungrouped convolution or linear layer, called once."""
    nodes = [node for node in module.graph.nodes if node.op == "call_module"]
    targets = [node.target for node in nodes]
    found = {}
    for node in nodes:
        if is_ungrouped(get_layer(module, node)) and targets.count(node.target) == 1:
            found[f"{node.target}.weight"] = node
    return found


def _folds(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Four images of five, and the fifth."""
    last = holdout_mask(rows)
    return rows[~last], rows[last]


def _reading(module: nn.Module, node: fx.Node, slot: Slot, sums: list[Moments]) -> ReaderStatistics:
    layer: Any = module.get_submodule(str(node.target))
    norm = find_batch_norm_after(module, node)
    scale = torch.ones(len(layer.weight), dtype=torch.float64)
    if norm is not None:
        scale = batch_norm_scale(module.get_submodule(str(norm.target)))
    train, held_out = sums
    mean = train.x[0] / train.rows
    if norm is None and layer.bias is None:
        mean = torch.zeros_like(mean)
    about = (mean[None], train.y / train.rows)
    other = held_out.about(*about)[0][0] if held_out.rows else None
    return ReaderStatistics(node, norm, slot, mean, train.about(*about)[0][0], other, scale)


def _flat(values: Tensor, places: int, dice: torch.Generator) -> Tensor:
    """Maps, or rows with channels last, as [images, places, channels]."""
    rows = values.movedim(1 if values.ndim == 4 else -1, -1)
    rows = rows.reshape(len(rows), -1, rows.shape[-1])
    pick = torch.randperm(rows.shape[1], generator=dice)[:places].to(rows.device)
    return rows[:, pick]
