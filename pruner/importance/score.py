"""score: a criterion's contributions, summed over the slots of every Dim."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sized

import numpy as np
import torch
from torch import Tensor

from ..data import Batch, count_samples
from ..errors import PrunerError
from ..gates import fold_positions
from ..graph import evaluation_mode
from ..structure import Dim, Importance, Network
from ..tasks import Task
from .base import Callback, Criterion, Loss, Subject, UserCriterion
from .network_criterion import NetworkCriterion
from .registry import resolve_criterion


def score(
    net: Network,
    batches: Iterable[Batch] | None,
    loss: Loss | None,
    criterion: str | Criterion | NetworkCriterion | UserCriterion = "measured",
    progress: Callback = None,
    *,
    task: Task | None = None,
) -> Importance:
    """Estimate what every index of every Dim is worth.

    For observation n (a batch, or a sample where the criterion looks at samples) let c_k(n, i) be
    the signed contribution of the tensors of cell k to index i of a Dim. The Dim's score is

        s(i) = mean over n of rise(sum over k of c_k(n, i))

    where rise is the magnitude for first-order criteria, and the part of cell k is s shared out in
    proportion to abs(c_k): on a residual stream the layers' terms may cancel, yet every layer, and
    so every removable block, keeps its part.

    Args:
        net: The traced network; left as it was: mode, weights, statistics, gradients.
        batches: Pairs (inputs, targets); inputs is a tensor, a tuple of positional or a dict of
            keyword arguments. None for criteria that look at weights alone.
        loss: loss(outputs, targets) -> scalar, the mean over the batch (None: the task's).
        criterion: A name (see `pruner.importance.CRITERIA`), a Criterion, or a function (name,
            parameter, gradient or None) -> contributions in the parameter's shape, used on the
            parameters that write each Dim.
        progress: Called with (batches done, batches in all or None).
        task: Calls the network, and tells how far outputs are from the dense network's. None: the
            inputs are its arguments, outputs compared by `pruner.tasks.compare_outputs`.

    Raises:
        PrunerError: The criterion is unknown, or needs data where there is none; or scores are not
            finite.
    """
    method = resolve_criterion(criterion, batches)
    _check_target(method, task)
    if loss is None and task is not None and (task.has_loss or method.needs == "gradients"):
        loss = task.mean_loss
    if isinstance(method, NetworkCriterion):
        if not isinstance(net, Network):
            raise PrunerError(f"criterion {method.name!r} needs a network that pruner.trace made")
        assert batches is not None
        batches = list(batches)
        for number, batch in enumerate(batches, 1):
            _count_samples(method.name, number, batch)
        if task is None:
            return method.score(net, batches, loss, progress)
        return method.score(net, batches, loss, progress, task)
    if isinstance(batches, Iterator):
        batches = list(batches)  # a criterion may go through them more than once
    with evaluation_mode(net.module, gradients=True):
        tally = _Tally(method, Subject.wrap(net.module, task), net.dims)
        if method.needs == "weights":
            tally.add()
        else:
            assert batches is not None
            _run_batches(tally, batches, loss, progress)
        return Importance(method.name, tally.average())


def _check_target(method: Criterion | NetworkCriterion, task: Task | None) -> None:
    if method.needs_target and (task is None or task.target is None):
        raise PrunerError(
            f"criterion {method.name!r} looks at a second domain: give its samples, without labels "
            "(on the command line --target-data DIR)"
        )


def _run_batches(
    tally: _Tally, batches: Iterable[Batch], loss: Loss | None, progress: Callback
) -> None:
    method, subject = tally.method, tally.subject
    with_gradients = method.needs == "gradients"
    if loss is None and with_gradients:
        raise PrunerError(
            f"criterion {method.name!r} needs a loss: loss(outputs, targets) -> scalar"
        )
    total = len(batches) if isinstance(batches, Sized) else None
    count = 0
    with method.watch(subject, [slot for slots in tally.slots.values() for slot in slots]):
        for count, batch in enumerate(batches, 1):
            method.begin_batch(_count_samples(method.name, count, batch))
            with torch.set_grad_enabled(with_gradients):
                outputs, targets = subject.run(batch)
            if with_gradients:
                assert loss is not None
                subject.update_gradients(loss(outputs, targets))
            tally.add()
            if progress is not None:
                progress(count, total)
    if count == 0:
        raise PrunerError(f"criterion {method.name!r}: batches are empty; give at least one")


def _count_samples(name: str, number: int, batch: Batch) -> int:
    samples = count_samples(batch[0])
    if not samples:
        raise PrunerError(f"criterion {name!r}: batch {number} is empty: its inputs hold no sample")
    return samples


class _Tally:
    """Running sums of every Dim's parts over observations."""

    def __init__(self, method: Criterion, subject: Subject, dims: Mapping[str, Dim]) -> None:
        self.method, self.subject = method, subject
        self.slots = {name: tuple(method.slots(subject, dim)) for name, dim in dims.items()}
        self.sizes = {name: dim.size for name, dim in dims.items()}
        self.sums: dict[str, dict[str, Tensor]] = {name: {} for name in dims}
        self.rows: dict[str, int] = defaultdict(int)

    @torch.no_grad()
    def add(self) -> None:
        """Add the contributions of what the criterion has seen last."""
        for name, slots in self.slots.items():
            cells: dict[str, Tensor] = {}
            for slot in slots:
                values = self.method.contribution(self.subject, slot).detach().double().cpu()
                folded = fold_positions(values, slot.owner, self.sizes[name])
                key = slot.cell or ""
                cells[key] = cells[key] + folded if key in cells else folded
            if not cells:
                continue
            rows = max(len(c) for c in cells.values())
            # A tensor that only its batch speaks for gives each sample of the batch an equal share.
            cells = {key: c.expand(rows, -1) for key, c in cells.items()}
            weights = torch.stack([c.abs() for c in cells.values()])
            share = weights / weights.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
            rise = self.method.rise(torch.stack(list(cells.values())).sum(0))
            sums = self.sums[name]
            for key, part in zip(cells, (share * rise).sum(1), strict=True):
                sums[key] = sums[key] + part if key in sums else part
            self.rows[name] += rows

    def average(self) -> dict[str, dict[str, np.ndarray]]:
        """Divide the sums by the number of observations: parts of an Importance."""
        return {
            name: {cell: (total / self.rows[name]).numpy() for cell, total in sums.items()}
            or {"": np.zeros(self.sizes[name])}
            for name, sums in self.sums.items()
        }
