"""``repair``: reconstruct a cut network, layer by layer, from what the dense one computes.

For a layer with inputs x in the cut network (the layers before it refitted already), over samples
and positions:

    min over W, b of mean |W x + b + s - y|^2 + ridge * mean |x|^2 / size * |W - W_old|^2

y is what the dense network has there, kept channels only. Where the layer ends a residual branch, y
is the sum and s the skip connection's value, so that a branch makes up for what was lost before it;
where blocks right behind are dropped, y is the last of their sums. This is layer-wise
reconstruction (He et al. 2017, arXiv 1707.06168, eq. 2) from the cut network's own inputs, so that
errors do not pile up. A batch norm behind the layer takes b and the statistics that fit; the
statistics of other batch norms are estimated anew. A layer that is called several times is fitted
once, to all of its calls.

Fitted is whatever is linear in a weight of its own: convolutions of any rank, in groups,
transposed; linear layers, products and einsums with a parameter or a part of one (the fused
projections of an attention); what recurrent layers read of their input and of their own state,
before the gates. A weight that is computed, or that something else reads as well, is left.

Where the width of queries and keys is cut, the products of both come as near the dense network's as
their rank allows (`logit_fits`); of values of fewer channels, those directions stay that what reads
their mixtures makes most of (`value_fits`).
"""

import warnings
from collections.abc import Callable, Iterable, Sequence

from torch import fx

from ..data import Batch
from ..errors import PrunerWarning
from ..graph import StagedExecution, evaluation_mode
from ..structure import Network, Plan
from ..tasks import NetworkCalls, Task
from .cut_axes import CutAxes
from .layer_fits import LayerFit, estimate_statistics
from .linear_reads import LinearRead, find_reads, get_shapes
from .logit_fits import LogitFit, LogitTask
from .outcome_check import OutcomeCheck
from .tasks import FitTask, FitTasks, LayerTask, list_tasks
from .value_fits import ValueFit, ValueTask
from .weight_views import WeightViews


def repair(
    module: fx.GraphModule,
    net: Network,
    plan: Plan,
    batches: Iterable[Batch] | NetworkCalls,
    *,
    task: Task | None = None,
    spatial_samples: int = 128,
    memory_mb: float = 2048,
    layers: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    places: int | None = None,
    check: bool = True,
) -> tuple[str, ...]:
    """Refit every layer that a cut reaches, in the order of execution, without label or gradient.

    See the module's first lines for what is minimized, and for what is fitted.

    Args:
        module: The cut network (`pruner.apply`), changed in place.
        net: The network that it was cut from.
        plan: How it was cut.
        batches: Calibration samples and targets, which are not looked at, or what the network is
            called with on them; a fifth of the samples chooses each layer's ridge.
        task: Calls the network (None: with the inputs as its arguments).
        spatial_samples: Output positions used of each sample, drawn at random.
        memory_mb: For activations kept from layer to layer; with less, more is run again.
        layers: Stop after that many (None: fit all).
        progress: Called with the layers done and their number.
        places: The former name of spatial_samples.
        check: Measure the divergence from the dense network on these samples before and after, and
            go back as far as the fits lead away from it. Warn of that, and of layers that were
            left.

    Returns:
        The names of the layers that were fitted.
    """
    samples = spatial_samples if places is None else places
    calls = NetworkCalls.record(task or Task(), net.module, batches)
    if not calls.arguments:
        return ()
    with evaluation_mode(module, net.module):
        found = list_tasks(module, net, plan)
        fits = found.tasks[:layers]
        checked = OutcomeCheck(module, net.module, calls) if check and fits else None
        size = memory_mb * 2**19
        cut, dense = (StagedExecution(m, calls.arguments, size) for m in (module, net.module))
        twins, axes, made = _find_twins(net), CutAxes(net, plan), list[str]()
        for done, (fit, before) in enumerate(_list_positions(fits, cut), 1):
            if isinstance(fit, tuple):
                estimate_statistics(module, fit, cut, before)
            elif _make_fit(fit, module, twins, axes).run(cut, dense, samples, before):
                made += [read.name for read in fit.reads]
            if progress is not None:
                progress(done, len(fits))
        settled = checked.settle() if checked is not None else None
    if check:
        _warn(found, settled)
    return tuple(dict.fromkeys(made)) if settled is None or settled[0] else ()


def _make_fit(
    task: LayerTask | LogitTask | ValueTask,
    module: fx.GraphModule,
    twins: dict[str, list[LinearRead]],
    axes: CutAxes,
) -> LayerFit | LogitFit | ValueFit:
    """Return a task with the networks that it is about."""
    if isinstance(task, LayerTask):
        return LayerFit(task, module, twins, axes)
    return LogitFit(task, axes) if isinstance(task, LogitTask) else ValueFit(task, axes)


def _list_positions(fits: Sequence[FitTask], cut: StagedExecution) -> list[tuple[FitTask, str]]:
    """Return every fit with the first node that it, or one behind it, begins at."""
    first, found = len(cut.nodes), list[tuple[FitTask, str]]()
    for fit in reversed(fits):
        nodes = [fit[0]] if isinstance(fit, tuple) else [read.node for read in fit.reads]
        first = min(first, *(cut.place[node.name] for node in nodes))
        found.append((fit, cut.nodes[first].name))
    return found[::-1]


def _find_twins(net: Network) -> dict[str, list[LinearRead]]:
    """Return the dense network's reads by the names of their nodes."""
    found = find_reads(net.module, WeightViews(net.module), get_shapes(net))
    return {node.name: reads for node, reads in found}


def _warn(found: FitTasks, settled: tuple[float, float, float] | None) -> None:
    """Say what was left as it was, and that fits were taken back."""
    if found.left:
        some = [f"{name} ({reason})" for name, reason in list(found.left.items())[:3]]
        more = f" and {len(found.left) - 3} more" if len(found.left) > 3 else ""
        text = f"repair leaves {', '.join(some)}{more} as cut"
        warnings.warn(text, PrunerWarning, stacklevel=3)
    if settled is not None:
        share, before, after = settled
        kept = f"{share:.0%} of the way was kept" if share else "the network is left as cut"
        warnings.warn(
            f"repair would bring the outputs further from the dense network's ({before:.4g} to "
            f"{after:.4g}): {kept}; give more samples",
            PrunerWarning,
            stacklevel=3,
        )
