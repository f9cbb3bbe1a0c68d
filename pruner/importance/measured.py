"""Measured: what the network itself says with a Dim cut or a Block bypassed."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..data import Batch, count_samples
from ..graph import Block, StagedExecution, evaluation_mode, nest_results
from ..structure import Dim, Importance, Network, Plan, rank_indices
from ..tasks import NetworkCalls, Task
from .base import Callback, Loss
from .divergence import mean_divergence, split_holdout, structure_divergence
from .layer_statistics import CalibrationStatistics, collect_statistics
from .network_criterion import NetworkCriterion
from .reconstruction import build_loss_curve, rank_by_elimination

Floats = NDArray[np.float64]

# Samples that repair the layers behind a dropped block, and how many of those layers.
BYPASSED, REPAIRED = 128, 8
SHARES = (0.9, 0.75, 0.55, 0.35, 0.15)


class MeasuredCriterion(NetworkCriterion):
    """Divergence of the outputs from the dense network's, cut by cut.

    For each Dim and some of its sizes, the indices that `Reconstruction` would keep are kept, its
    consumers refitted by least squares, and the network is run; a Block is dropped and the next
    layers are repaired (`pruner.repair`). The measure is the task's divergence: it needs no labels,
    and is smooth on few samples. Between measured sizes it is interpolated as a power of the
    reconstruction's error. Layers before a cut are run once for all its sizes. Of four batches
    three are for the fits, one for the measurement, as long as that has less than ``MEASURED_ON``
    samples: what a fit has learnt by heart does not count.
    """

    name = "measured"

    def __init__(
        self, *, spatial_samples: int = 64, shares: tuple[float, ...] = SHARES, places: int = 0,
        order: Importance | None = None,
    ) -> None:  # fmt: skip
        """Set how a cut is measured.

        Args:
            spatial_samples: Positions used of each input.
            shares: Of a Dim's size, the widths that are measured.
            places: The former name of spatial_samples.
            order: Scores by which indices go, the lowest first; of Dims that it does not name, and
                without it, those go first that cost the least after a refit.
        """
        self.spatial_samples, self.shares = places or spatial_samples, shares
        self.order = order

    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Measure every cut by itself; see `NetworkCriterion.score`."""
        fits, held_out = split_holdout(list(batches))
        few = [b for k, b in enumerate(fits) if k * count_samples(b[0]) < BYPASSED]
        task = task or Task()
        scores: dict[str, dict[str, Floats]] = {}
        curves: dict[str, Floats] = {}
        blocks: dict[str, float] = {}
        done, total = 0, self.count_cuts(net)
        with evaluation_mode(net.module):
            record = partial(NetworkCalls.record, task, net.module)
            statistics = collect_statistics(net, record(fits), self.spatial_samples)
            few_calls, calls = record(few), record(held_out)
            execution = StagedExecution(net.module, calls.arguments)
            dense = list(_run_stage(net, execution, calls))
            for start, part in _order_cuts(net, statistics, execution):
                name = part.name
                for _ in execution.values([], before=start):
                    pass  # moves the position
                if isinstance(part, Block):
                    plan = Plan({}, {name: False})
                    blocks[name] = structure_divergence(
                        net, plan, few_calls, held_out, dense, task=task, layers=REPAIRED
                    )
                    done += 1
                else:
                    sizes = self._choose_sizes(part)
                    found = statistics.eliminate(part, sizes, self._list_order(part))
                    measured = {}
                    for size in sizes:
                        changes = statistics.simulate_cut(part, found, size)
                        with _swap_parameters(net.module, changes):
                            results = _run_stage(net, execution, calls)
                            measured[size] = mean_divergence(results, dense, task)
                    curves[name] = interpolate_curve(part, found.errors, measured)
                    scores[name] = {"": rank_by_elimination(found, curves[name], part)}
                    done += len(measured)
                if progress is not None:
                    progress(done, total)
        parts = {name: scores[name] for name in net.dims}
        return Importance(self.name, parts, {n: blocks[n] for n in net.blocks}, curves)

    def count_cuts(self, net: Network) -> int:
        """Count what `score` measures: some sizes of every Dim, and the Blocks."""
        return sum(len(self._choose_sizes(dim)) for dim in net.dims.values()) + len(net.blocks)

    def _list_order(self, dim: Dim) -> NDArray[np.int64] | None:
        """Return a Dim's indices by the given scores, the first to go first."""
        if self.order is None or dim.name not in self.order.parts:
            return None
        return rank_indices(self.order, dim.name)[::-1].copy()

    def _choose_sizes(self, dim: Dim) -> list[int]:
        """Choose some options below the uncut size, the smallest among them."""
        options = np.array(dim.options()[:-1])
        if not len(options):
            return []
        nearest = {int(options[np.abs(options - s * dim.size).argmin()]) for s in self.shares}
        return sorted({*nearest, int(options[0])}, reverse=True)


def interpolate_curve(dim: Dim, errors: Mapping[int, float], known: Mapping[int, float]) -> Floats:
    """Interpolate a loss curve, piecewise as a power of the reconstruction's error.

    Args:
        dim: The Dim that is cut.
        errors: Option -> reconstruction's error.
        known: Some options -> divergence.
    """
    sizes = sorted(known, reverse=True)
    x = np.log([max(errors[n], 1e-12 * max(errors.values(), default=1.0), 1e-300) for n in sizes])
    y = np.log(np.maximum.accumulate([max(known[n], 1e-9) for n in sizes]))
    values = {dim.size: 0.0}
    for n in dim.options()[:-1]:
        e = np.log(max(errors[n], 1e-300))
        if e < x[0]:  # before the first: in proportion to the error
            values[n] = float(np.exp(y[0] + e - x[0]))
        else:
            values[n] = float(np.exp(np.interp(e, x, y)))
    return build_loss_curve(dim, values)


def _run_stage(net: Network, execution: StagedExecution, calls: NetworkCalls) -> Iterator[Any]:
    """Yield the task's outputs, batch by batch, from where the execution stands."""
    nested = nest_results(net.module)
    names = {leaf.name for leaf in pytree.tree_leaves(nested) if isinstance(leaf, fx.Node)}

    def fill_in(values: Mapping[str, Any]) -> Any:
        return pytree.tree_map_only(fx.Node, lambda node: values[node.name], nested)

    return calls.complete(map(fill_in, execution.values(names)))


def _order_cuts(
    net: Network, statistics: CalibrationStatistics, execution: StagedExecution
) -> list[tuple[str, Dim | Block]]:
    """List Dims and Blocks with the node from which on they change something, front to back."""
    found: list[tuple[str, Dim | Block]] = []
    tied = net.program.tied
    for dim in net.dims.values():
        names = [reader.node.name for reader in statistics.readers[dim.name]]
        if silenced := {slot.tensor for slot in statistics.list_silenced(dim)}:
            silenced |= {other for other, name in tied.items() if name in silenced}
            names += [n.name for n in execution.nodes if _reads_any(n, silenced)]
        found.append((min(names, key=execution.place.__getitem__), dim))
    found.extend((block.join, block) for block in net.blocks.values())
    return sorted(found, key=lambda cut: execution.place[cut[0]])


def _reads_any(node: fx.Node, tensors: Collection[str]) -> bool:
    """Return whether a node is one of these tensors, or the call of a layer that holds one."""
    if node.op == "get_attr":
        return str(node.target) in tensors
    own = (tensor.rpartition(".")[0] for tensor in tensors)
    return node.op == "call_module" and str(node.target) in own


@contextmanager
def _swap_parameters(module: nn.Module, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """Give parameters other values, and their own again afterwards."""
    tensors = {n: p.detach() for n, p in module.named_parameters(remove_duplicate=False)}
    before = {name: tensors[name].clone() for name in changes}
    try:
        for name, value in changes.items():
            tensors[name].copy_(value)
        yield
    finally:
        for name, value in before.items():
            tensors[name].copy_(value)
