"""LayerFit: one read of the cut network, fitted by ridge regression to what the dense one has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..graph import BatchNorm, StagedExecution, batch_norm_scale
from .cut_axes import CutAxes
from .layer_samples import draw_positions, mark_holdout, split_groups
from .layout_chains import LayoutChain
from .linear_reads import LinearRead
from .ridge import Moments, RidgeFit, fit_ridge
from .tasks import LayerTask

Values = Mapping[str, Any]


class LayerFit:
    """A task with the networks that it is about.

    Attributes:
        task: What is fitted.
    """

    def __init__(
        self, task: LayerTask, module: fx.GraphModule, twins: Mapping[str, Sequence[LinearRead]],
        axes: CutAxes,
    ) -> None:  # fmt: skip
        """Take a task of a cut network.

        Args:
            task: What is fitted.
            module: The cut network, which is changed.
            twins: The dense network's reads by the names of their nodes.
            axes: What the plan keeps.
        """
        self.task, self.axes = task, axes
        self.calls = [_Call(call, twins, axes) for call in task.list_calls()]
        norm = None if task.norm is None else module.get_submodule(str(task.norm.target))
        self.norm = norm if isinstance(norm, BatchNorm) else None
        self.factor: Tensor | None = None
        self._twins = twins

    @torch.no_grad()
    def run(
        self, cut: StagedExecution, dense: StagedExecution, spatial_samples: int, before: str
    ) -> bool:
        """Refit the weight to all calls, from values of both networks at sampled positions.

        Return true: a ridge without end keeps the old weights, too.

        Args:
            cut: The cut network.
            dense: The dense one.
            spatial_samples: Positions of a sample that are looked at.
            before: The node that both executions may move to.
        """
        read = self.task.read
        self._find_factor(cut)
        old = self._read_weight()
        train, held_out = (Moments(*old.shape) for _ in range(2))
        ours = {name for call in self.calls for name in call.needs}
        theirs = {name for call in self.calls for name in call.targets}
        both = zip(cut.values(ours, before), dense.values(theirs, before), strict=True)
        for k, (found, goal) in enumerate(both):
            for call in self.calls:
                xs, ys = call.sample(found, goal, spatial_samples, k)
                fold = mark_holdout(xs)
                for part, samples in ((train, ~fold), (held_out, fold)):
                    if samples.any():
                        groups = read.form.groups
                        part.add(
                            split_groups(xs[samples], groups), split_groups(ys[samples], groups)
                        )
        biased = read.bias is not None or self.norm is not None
        fit = fit_ridge(train, held_out, old, biased=biased)
        if torch.isfinite(fit.weight).all() and torch.isfinite(fit.bias).all():
            self._write(fit)
        return True

    def _find_factor(self, cut: StagedExecution) -> None:
        """Find what each output is multiplied by on the way to its sum.

        Where that is not one number for each, the fit is to the outputs themselves.
        """
        chain, form = self.task.chain, self.task.read.form
        if chain is None or not chain.scales:
            return
        values = next(iter(cut.values({*chain.needs})))
        ones = torch.ones_like(values[chain.start.name], dtype=torch.float64)
        back = chain.carry_back(chain.carry(ones, values, multiply=True), values)
        at = torch.arange(form.count_positions(back), device=back.device)
        found = form.sample_outputs(back, at).flatten(0, 1)
        if (found == found[:1]).all():
            size = found[0].abs()
            self.factor = found[0].masked_fill(size <= 1e-8 * size.max(), 0.0)
            return
        self.task = replace(self.task, chain=None, residual=None, target=chain.start.name)
        self.calls = [_Call(self.task, self._twins, self.axes)]

    def _read_weight(self) -> Tensor:
        """Return the weight behind the norm's scale: [groups, inputs, outputs] double."""
        read = self.task.read
        weight = read.form.arrange(read.weight.tensor.detach().double())
        if self.factor is not None:
            return weight * self.factor.view(len(weight), 1, -1)
        return weight if self.norm is None else weight * self._scale(weight)

    def _undo_factor(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return a fit in front of the factors; what is multiplied by zero stays as it was."""
        assert self.factor is not None
        read, gone = self.task.read, self.factor == 0
        factor = self.factor.masked_fill(gone, 1.0)
        old = read.form.arrange(read.weight.tensor.detach().double())
        shape = (len(weight), 1, -1)
        weight = torch.where(gone.view(shape), old, weight / factor.view(shape))
        if read.bias is None:
            return weight, bias
        return weight, torch.where(
            gone, read.bias.tensor.detach().double().flatten(), bias / factor
        )

    def _scale(self, weight: Tensor) -> Tensor:
        assert self.norm is not None
        return batch_norm_scale(self.norm).view(len(weight), 1, -1)

    def _write(self, fit: RidgeFit) -> None:
        """Put a fit into the weight, or into it and the batch norm behind it."""
        read, norm = self.task.read, self.norm
        weight, bias = fit.weight, fit.bias.flatten()
        own = read.weight.tensor.detach()
        if self.factor is not None:
            weight, bias = self._undo_factor(weight, bias)
        if norm is None:
            own.copy_(read.form.restore(weight, own.shape))
            if read.bias is not None:
                read.bias.tensor.detach().copy_(bias.view_as(read.bias.tensor))
            return
        scale = batch_norm_scale(norm)
        mean, variance = fit.mean.flatten(), fit.variance.flatten() / scale.square()
        assert norm.running_mean is not None and norm.running_var is not None
        own.copy_(read.form.restore(weight / self._scale(weight), own.shape))
        if read.bias is not None:
            read.bias.tensor.detach().zero_()
        norm.running_mean.copy_((mean - bias) / scale)
        norm.running_var.copy_(variance)
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(mean)


class _Call:
    """One call of a read: what it is given in the cut network, and what it is to give."""

    def __init__(
        self, task: LayerTask, twins: Mapping[str, Sequence[LinearRead]], axes: CutAxes
    ) -> None:
        self.task, self.read = task, task.read
        self.twin: LinearRead | None = None
        if self.read.step is not None:
            self.twin = next(
                one
                for one in twins[self.read.node.name]
                if one.weight.name == self.read.weight.name
            )
            self.kept = [np.ones(1, bool)] * 2 + [axes.find_kept_entries(self.read.weight.name)[0]]
        else:
            self.kept = axes.find_kept(task.target)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the cut network's nodes."""
        residual, chain = self.task.residual, self.task.chain
        moved = () if chain is None else chain.needs
        return (*self.read.needs, *moved, *(() if residual is None else (residual.name,)))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the dense network's nodes."""
        if self.twin is not None:
            return self.twin.needs
        return (self.task.target, *(self.task.override or ()))

    def sample(
        self, ours: Values, theirs: Values, spatial_samples: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """Return what is read of the cut network, and what it is to be: rows of both."""
        form, call = self.read.form, self.task
        x, y = self.read.read_value(ours), self._find_target(theirs)
        channels = form.channel_axes
        if call.chain is not None:
            y = self._carry_back(call.chain, ours, y)
            at = draw_positions(form, y, spatial_samples, self._position_key, batch)
            return form.sample_inputs(x, y.shape, at), form.sample_outputs(y, at)
        for axis, kept in enumerate(self.kept):
            if axis not in channels and not kept.all():  # rows that are gone
                y = y.index_select(axis, _to_index(kept, y))
        at = draw_positions(form, y, spatial_samples, self._position_key, batch)
        xs = form.sample_inputs(x, y.shape, at)
        ys = form.sample_outputs(y, at)
        kept = _join_masks([self.kept[axis] for axis in channels])
        if not kept.all():
            ys = ys[..., _to_index(kept, y)]
        if call.residual is not None:
            added = ours[call.residual.name]
            shape = list(y.shape)
            for axis in channels:
                shape[axis] = int(self.kept[axis].sum())
            ys = ys - form.sample_outputs(added.expand(shape), at)
        return xs, ys

    def _carry_back(self, chain: LayoutChain, ours: Values, y: Tensor) -> Tensor:
        """Return what a read's result is to add to the sum behind it, in the result's shape."""
        assert self.task.residual is not None
        for axis, kept in enumerate(self.kept):
            if not kept.all():
                y = y.index_select(axis, _to_index(kept, y))
        return chain.carry_back(y - ours[self.task.residual.name], ours)

    @property
    def _position_key(self) -> str:
        step = self.read.step
        return self.read.node.name if step is None else f"{self.read.node.name} {step.row}"

    def _find_target(self, theirs: Values) -> Tensor:
        """Return what the dense network has where this is to come near it."""
        if self.twin is not None:
            return self.twin.compute(theirs)
        y = theirs[self.task.target]
        assert isinstance(y, Tensor)
        if self.task.override is not None:
            value, first, second = (theirs[name] for name in self.task.override)
            y = torch.where(first == second, value, y)
        return y


def _join_masks(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    result = np.ones(1, bool)
    for mask in masks:
        result = np.outer(result, mask).ravel()
    return result


def _to_index(kept: NDArray[np.bool_], like: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(kept)).to(like.device)


@torch.no_grad()
def estimate_statistics(
    module: fx.GraphModule, calls: tuple[fx.Node, ...], cut: StagedExecution, before: str
) -> None:
    """Estimate the running statistics of a batch norm that follows no refitted layer."""
    norm: nn.Module = module.get_submodule(str(calls[0].target))
    assert isinstance(norm, BatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    sources = [str(node.args[0]) for node in calls]
    for found in cut.values(sources, before):
        for source in sources:
            rows = found[source].double().movedim(1, -1).flatten(0, -2)
            count, total = count + len(rows), total + rows.sum(0)
            squares = squares + (rows**2).sum(0)
    mean = total / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((squares / count - mean.square()).clamp_min(0))
