"""Lists the products of a cut network that sum along a cut width, or leave one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import fx

from ..graph import find_input_dependent
from ..structure import Network
from .cut_axes import CutAxes
from .layout_chains import find_reader
from .linear_reads import LinearRead, find_reads, get_shapes
from .logit_fits import LogitTask
from .mixtures import find_mixture
from .product_operands import Operand, find_product, list_starts
from .value_fits import ValueTask
from .weight_views import WeightViews


def list_product_tasks(
    module: fx.GraphModule,
    net: Network,
    cut: CutAxes,
    views: WeightViews,
    calls: Mapping[Any, Sequence[LinearRead]],
) -> dict[fx.Node, list[LogitTask | ValueTask]]:
    """Return the products to be fitted by the last of the operators that write their operands.

    Args:
        module: The cut network.
        net: The network that it was cut from.
        cut: What is kept of its axes.
        views: The weights of the cut network.
        calls: Its linear operators by what several calls of one have in common.
    """
    alone = [reads[0] for reads in calls.values() if len(reads) == 1 and _is_own(reads[0], views)]
    starts, shapes = list_starts(alone), get_shapes(net)
    twin_reads = find_reads(net.module, WeightViews(net.module), shapes)
    twin_starts = list_starts(read for _, reads in twin_reads for read in reads)
    twins = {node.name: node for node in net.module.graph.nodes}
    live, twin_live = (find_input_dependent(one.graph) for one in (module, net.module))
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    found: dict[fx.Node, list[LogitTask | ValueTask]] = defaultdict(list)
    readers, twin_readers = _list_sources(alone), _list_sources(twin_starts.values())
    for node in module.graph.nodes:
        if node.name not in twins:
            continue
        mixture = find_mixture(module, node, starts, readers, live, shapes)
        if mixture is not None and _is_cut(mixture.value, cut):
            other = find_mixture(
                net.module, twins[node.name], twin_starts, twin_readers, twin_live, shapes
            )
            if other is not None:
                found[mixture.value.read.node].append(ValueTask(mixture, other))
        if not cut.reads_cut(node.name):
            continue
        product = find_product(module, node, starts, live, shapes)
        twin = find_product(net.module, twins[node.name], twin_starts, twin_live, shapes)
        if product is None or twin is None or not _is_cut(product.query, cut):
            continue
        task = LogitTask(product, twin)
        found[max((read.node for read in task.reads), key=order.__getitem__)].append(task)
    return found


def _list_sources(reads: Iterable[LinearRead]) -> dict[fx.Node, LinearRead]:
    """Return what alone reads a value, by the value's node."""
    return {read.source: read for read in reads if find_reader(read.source) is read.node}


def _is_own(read: LinearRead, views: WeightViews) -> bool:
    """Whether an operator alone reads its weight and bias."""
    held = [view for view in (read.weight, read.bias) if view is not None]
    readers = {read.node, read.result}
    return not any(views.list_other_readers(view, readers) for view in held)


def _is_cut(operand: Operand, cut: CutAxes) -> bool:
    """Whether the width that a product sums over is cut."""
    return not cut.find_kept(operand.node.name)[operand.order[-1]].all()
