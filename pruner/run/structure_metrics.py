"""The figures of a structure: what stays of every Dim, Block and cell, and what cannot go."""

from collections.abc import Mapping

from torch import nn

from latency_tables import LatencyTable

from ..problem import predict
from ..structure import Network, Plan
from ..utils import group_names
from .metrics import BlockMetrics, CellMetrics, DimMetrics, FrozenMetrics, StructureMetrics

Locks = Mapping[str, tuple[tuple[str, ...], int]]
_NAMES_SHOWN = 3


def collect_structure(net: Network, table: LatencyTable, plan: Plan) -> StructureMetrics:
    """Gather what a plan keeps of a network, and the table's milliseconds of its cells."""
    sizes, dropped = plan.sizes(), plan.dropped_blocks()
    widths = net.cell_sizes(sizes, dropped)
    dense_ms, pruned_ms = predict(net, table), predict(net, table, sizes, dropped)
    cells, dims = [], []
    for cell in net.cells():
        before = float(table.predict(cell.spec, [cell.dense_sizes], dense_ms)[0])
        size = widths.get(cell.name)
        spec = cell.spec_at(dropped)
        after = float(table.predict(spec, [size], pruned_ms)[0]) if size is not None else 0.0
        cells.append(CellMetrics(name=cell.name, dense_ms=before, pruned_ms=after))
    for name, dim in net.dims.items():
        kept = sizes.get(name, dim.size)
        dims.append(DimMetrics(name=name, kind=dim.kind, size=dim.size, kept=kept))
    blocks = [BlockMetrics(name=name, kept=name not in dropped) for name in net.blocks]
    return StructureMetrics(
        dims=tuple(dims), blocks=tuple(blocks), cells=tuple(cells), frozen=_collect_frozen(net)
    )


def collect_locks(net: Network) -> Locks:
    """Reason -> the parameters that it touches, and how many numbers nothing can cut therefore."""
    sizes = {
        name: tensor.numel()
        for name, tensor in net.program.tensors.items()
        if isinstance(tensor, nn.Parameter)
    }
    cut = {slot.tensor for dim in net.dims.values() for slot in dim.slots}
    found = {}
    for part in net.frozen:
        touched = tuple(name for name in part.tensors if name in sizes)
        if touched:
            found[part.reason] = touched, sum(sizes[t] for t in touched if t not in cut)
    return found


def join_names(names: tuple[str, ...], everything: bool = False) -> str:
    """List names, alike ones as one and after the third only their number, or everything."""
    if everything:
        return ", ".join(names)
    found = [name for name, _ in group_names((name, None) for name in names)]
    head = ", ".join(found[:_NAMES_SHOWN])
    rest = len(found) - _NAMES_SHOWN
    return head if rest <= 0 else f"{head} and {rest} more"


def _collect_frozen(net: Network) -> tuple[FrozenMetrics, ...]:
    """Return the reasons, alike ones as one, those that lock most first."""
    locks = collect_locks(net)
    found = []
    for reason, members in group_names((name, None) for name in locks):
        tensors = tuple(tensor for member in members for tensor in locks[member][0])
        locked = sum(locks[member][1] for member in members)
        found.append(FrozenMetrics(reason=reason, tensors=join_names(tensors), locked=locked))
    return tuple(sorted(found, key=lambda one: -one.locked))
