"""What can be cut of a network, what not and why: in text that stays readable for a large one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import floor
from typing import Any

from torch import Tensor

from ..graph import operator_name
from ..models import DenseModel, describe_weights
from ..structure import Cost, Network
from ..utils import group_names
from .console_summary import Outcome
from .structure_metrics import Locks, collect_locks, join_names

MOST_LINES = 40
"""Lines of a section; further ones are counted, and shown with --all."""


def inspect_network(net: Network, dense: DenseModel, everything: bool = False) -> Outcome:
    """Describe the structure of a traced network: what can be cut, and what not and why.

    What can go in all is what every Dim at its smallest size and every Block dropped would save; of
    a line of Dims or Blocks, what these alone would. ``everything`` shows each Dim, Block and cell
    by itself, and all lines.
    """
    cost = _DenseCost(net)
    smallest = {name: dim.options()[0] for name, dim in net.dims.items()}
    shares = cost.shares(smallest, tuple(net.blocks))
    frozen = collect_locks(net)
    unknown: dict[str, dict[str, None]] = {}
    for node in net.axis_map.unsupported:
        unknown.setdefault(operator_name(node), {})[node.meta.get("path") or net.name] = None
    lines = list(_list_head(net, dense, cost, shares))
    dims, blocks, cells = (
        f"{len(things)} {name}" + ("" if len(things) == 1 else "s")
        for things, name in ((net.dims, "dim"), (net.blocks, "block"), (net.located, "cell"))
    )
    for title, rows in (
        (f"{dims}: coupled channels", _list_dims(net, cost, everything)),
        (f"{blocks}: removable branches", _list_blocks(net, cost, everything)),
        (f"{cells}: what is timed", _list_cells(net, everything)),
        ("frozen", _list_frozen(frozen, cost, everything)),
    ):
        lines += ["", title, *_shorten(rows, everything)]
    for name, modules in unknown.items():
        lines.append(
            f"  operator {name} has no rule; called in {join_names(tuple(modules), everything)}"
        )
    data = {
        "dims": {dim.name: dim.size for dim in net.dims.values()},
        "blocks": list(net.blocks),
        "cells": [located.cell.name for located in net.located],
        "frozen": {reason: list(tensors) for reason, (tensors, _) in frozen.items()},
        "unknown": {name: list(modules) for name, modules in unknown.items()},
        "fixed_batch": net.fixed_batch,
        "shares": dict(zip(("parameters", "MACs"), shares)),
    }
    return Outcome("\n".join(lines), data)


class _DenseCost:
    """Parameters and multiply-adds of the uncut network, to take shares of."""

    def __init__(self, net: Network) -> None:
        self._counts = Cost.of_parameters(net), Cost.of_macs(net)
        self.parameters, self.macs = (count.dense for count in self._counts)

    def shares(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> tuple[float, float]:
        """Return the shares of parameters and MACs that go at these sizes, with these Blocks."""
        parameters, macs = self._counts
        return (
            1 - parameters.count(sizes, dropped) / max(self.parameters, 1),
            1 - macs.count(sizes, dropped) / max(self.macs, 1),
        )


def _list_head(
    net: Network, dense: DenseModel, cost: _DenseCost, shares: tuple[float, float]
) -> Iterable[str]:
    named = [n for n in net.program.graph.nodes if n.op == "placeholder"]
    inputs = [
        f"{node.name} {'x'.join(map(str, leaf.shape))}"
        for node, leaf in zip(named, net.inputs)
        if isinstance(leaf, Tensor)
    ]
    yield net.name
    weights = describe_weights(dense.name, dense.weights)
    yield f"  input: {', '.join(inputs)}; weights: {weights}"
    model = sum(parameter.numel() for parameter in dense.module.parameters())
    part = f" (of the model's {model:,})" if model > cost.parameters else ""
    yield f"  parameters: {cost.parameters:,}{part}, of which {_format_share(shares[0])} can go"
    yield f"  MACs: {cost.macs:,}, of which {_format_share(shares[1])} can go"
    if net.fixed_batch is not None:
        yield (
            f"  batch: {net.fixed_batch} only; torch.export makes it a constant of this network. "
            "Give the batch to run with by --input"
        )
    if net.program.values:
        held = ", ".join(f"{name}={value!r}" for name, value in net.program.values.items())
        yield f"  arguments: {held} only, as traced; other values are refused"
    for note in net.program.notes:
        yield f"  note: {note}"


def _list_dims(net: Network, cost: _DenseCost, everything: bool) -> list[str]:
    rows: list[tuple[str, ...]] = []
    traits = {dim.name: (dim.kind, dim.size, dim.step) for dim in net.dims.values()}
    for name, members in _group(traits, everything):
        kind, size, step = traits[members[0]]
        tensors = [len({slot.tensor for slot in net.dims[member].slots}) for member in members]
        cut = cost.shares({member: net.dims[member].options()[0] for member in members})
        least, most = min(tensors), max(tensors)
        count = f"{least}" if least == most else f"{least}-{most}"
        row = (_count_times(members), name, kind, f"{size}", f"{step}", count)
        rows.append((*row, *map(_format_share, cut)))
    return _align_columns(("kind", "size", "step", "tensors", "parameters", "MACs"), rows)


def _list_blocks(net: Network, cost: _DenseCost, everything: bool) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for name, members in _group(dict.fromkeys(net.blocks), everything):
        inside = max(len(net.blocks[member].inside) for member in members)
        gone = map(_format_share, cost.shares({}, members))
        rows.append((_count_times(members), name, f"{inside}" if inside else "", *gone))
    return _align_columns(("nested", "parameters", "MACs"), rows)


def _list_cells(net: Network, everything: bool) -> list[str]:
    cells = net.cells()
    if everything:
        return [f"  {cell.name}: {cell.spec}" for cell in cells]
    counts = Counter(cell.spec.operator for cell in cells)
    return [f"  {', '.join(f'{count} {name}' for name, count in counts.most_common())}"]


def _list_frozen(reasons: Locks, cost: _DenseCost, everything: bool) -> list[str]:
    rows = []
    for name, members in _group(dict.fromkeys(reasons), everything):
        tensors = [tensor for member in members for tensor in reasons[member][0]]
        locked = sum(reasons[member][1] for member in members)
        share = _format_share(locked / max(cost.parameters, 1))
        said = f"locks {locked:,} parameters ({share})" if locked else "one axis of"
        rows.append(
            f"  {_count_times(members)}{name}: {said}: {join_names(tuple(tensors), everything)}"
        )
    return rows or ["  nothing"]


def _group(traits: Mapping[str, Any], everything: bool) -> list[tuple[str, list[str]]]:
    return [(name, [name]) for name in traits] if everything else group_names(traits.items())


def _count_times(members: Sequence[str]) -> str:
    return f"{len(members)} x " if len(members) > 1 else ""


def _align_columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of (how often, name, column...) under the columns' names, empty columns left out."""
    if not rows:
        return ["  none"]
    filled = [k for k in range(2 + len(head)) if k < 2 or any(row[k] for row in rows)]
    table = [("", "", *head), *rows]
    width = {k: max(len(row[k]) for row in table) for k in filled}
    return [
        "  " + row[0].rjust(width[0]) + row[1].ljust(width[1])
        + "".join("  " + row[k].rjust(width[k]) for k in filled[2:])
        for row in table
    ]  # fmt: skip


def _shorten(lines: list[str], everything: bool) -> list[str]:
    if everything or len(lines) <= MOST_LINES + 1:
        return lines
    return [*lines[:MOST_LINES], f"  and {len(lines) - MOST_LINES} more lines: --all"]


def _format_share(share: float) -> str:
    """Rounded down: what is said to go can go."""
    return f"{floor(share * 1000 + 1e-9) / 10:.1f}%"
