"""score: a criterion's contributions, folded over the slots of every Dim."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PrunerError
from ..graph import evaluation_mode, move_to_device
from ..structure import Dim, Importance, Network, Slot
from .base import Criterion, Custom, Subject, UserCriterion, fold
from .network_criterion import NetworkCriterion
from .registry import find_criterion

Loss = Callable[[Any, Any], Tensor]


class Scorable(Protocol):
    """What `score` needs of a Network: the module and its Dims."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def dims(self) -> Mapping[str, Dim]: ...


def score(
    net: Scorable,
    batches: Iterable[tuple[Any, Any]] | None,
    loss: Loss | None,
    criterion: str | Criterion | NetworkCriterion | UserCriterion = "measured",
    progress: Callable[[int, int | None], None] | None = None,
) -> Importance:
    """Estimate what every index of every Dim is worth.

    For observation n (a batch, or a sample where the criterion looks at samples) let c_k(n, i) be
    the signed contribution of the tensors of cell k to index i of a Dim. The Dim's score is

        s(i) = mean over n of rise(sum over k of c_k(n, i))

    where rise is the magnitude for first-order criteria, and the part of cell k is s shared out in
    proportion to abs(c_k): on a residual stream the layers' terms may cancel, yet every layer, and
    so every removable block, keeps its part.

    net
        The traced network; left as it was: mode, weights, statistics, gradients.
    batches
        Pairs (inputs, targets); inputs is a tensor or a tuple of them. None for criteria that look
        at weights alone.
    loss
        loss(outputs, targets) -> scalar, the mean over the batch.
    criterion
        A name (see `pruner.importance.CRITERIA`), a Criterion, or a function (name, parameter,
        gradient or None) -> contributions in the parameter's shape, used on the parameters that
        write each Dim.
    progress
        Called with (batches done, batches in all or None).

    Raises PrunerError for an unknown criterion, for one that needs data where there is none, and
    where scores are not finite.
    """
    method = _method(criterion, batches)
    if isinstance(method, NetworkCriterion):
        if not isinstance(net, Network):
            raise PrunerError(f"criterion {method.name!r} needs a network that pruner.trace made")
        assert batches is not None
        return method.score(net, list(batches), loss, progress)
    module = net.module
    parameters = dict(module.named_parameters(remove_duplicate=False))
    subject = Subject(module, parameters, {})
    if isinstance(batches, Iterator):
        batches = list(batches)  # a criterion may go through them more than once
    with evaluation_mode(module, gradients=True):
        plan = {name: tuple(method.slots(subject, dim)) for name, dim in net.dims.items()}
        tally = _Tally(net.dims, plan)
        if method.needs == "weights":
            with torch.no_grad():
                tally.add(method, subject)
        else:
            _run(method, subject, tally, batches, loss, progress)
        return Importance(method.name, tally.parts())


def _method(
    criterion: str | Criterion | NetworkCriterion | UserCriterion, batches: object
) -> Criterion | NetworkCriterion:
    if isinstance(criterion, str):
        method = find_criterion(criterion)
    elif isinstance(criterion, (Criterion, NetworkCriterion)):
        method = criterion
    elif callable(criterion):
        method = Custom(criterion, with_data=batches is not None)
    else:
        raise PrunerError(
            f"criterion: a name, a Criterion or a function expected, got {criterion!r}"
        )
    if method.needs != "weights" and batches is None:
        raise PrunerError(
            f"criterion {method.name!r} needs data: give batches (on the command line --data DIR), "
            "or choose one that looks at weights alone, such as 'magnitude'"
        )
    return method


def _run(
    method: Criterion,
    subject: Subject,
    tally: _Tally,
    batches: Iterable[tuple[Any, Any]] | None,
    loss: Loss | None,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    assert batches is not None
    if loss is None and method.needs == "gradients":
        raise PrunerError(
            f"criterion {method.name!r} needs a loss: loss(outputs, targets) -> scalar"
        )
    first = next(iter(subject.parameters.values()))
    total = len(batches) if isinstance(batches, Sized) else None
    # A parameter tied to another is one tensor: its gradient is asked for once and given to both.
    unique = list(dict.fromkeys(subject.parameters.values()))
    slots = [slot for chosen in tally.plan.values() for slot in chosen]
    count = 0
    with method.watch(subject, slots):
        for inputs, targets in batches:
            inputs, targets = (
                move_to_device(inputs, first.device),
                move_to_device(targets, first.device),
            )
            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            with torch.set_grad_enabled(method.needs == "gradients"):
                outputs = subject.module(*arguments)
            if method.needs == "gradients":
                assert loss is not None
                found = torch.autograd.grad(loss(outputs, targets), unique, allow_unused=True)
                by_tensor = dict(zip(unique, found, strict=True))
                subject.gradients.clear()
                for name, parameter in subject.parameters.items():
                    gradient = by_tensor[parameter]
                    if gradient is not None:
                        subject.gradients[name] = gradient
            with torch.no_grad():
                tally.add(method, subject)
            count += 1
            if progress is not None:
                progress(count, total)
    if count == 0:
        raise PrunerError(f"criterion {method.name!r}: batches are empty; give at least one")


class _Tally:
    """Running sums of every Dim's parts over observations."""

    def __init__(self, dims: Mapping[str, Dim], plan: Mapping[str, Sequence[Slot]]) -> None:
        self.plan = plan
        self.sizes = {name: dim.size for name, dim in dims.items()}
        self.sums: dict[str, dict[str, Tensor]] = {name: {} for name in dims}
        self.rows: dict[str, int] = defaultdict(int)

    def add(self, method: Criterion, subject: Subject) -> None:
        """Fold the contributions of what the criterion has seen last."""
        for name, slots in self.plan.items():
            cells: dict[str, Tensor] = {}
            for slot in slots:
                values = method.contribution(subject, slot).detach().double().cpu()
                folded = fold(values, slot.owner, self.sizes[name])
                key = slot.cell or ""
                cells[key] = cells[key] + folded if key in cells else folded
            if not cells:
                continue
            rows = max(len(c) for c in cells.values())
            # A tensor that only its batch speaks for gives each sample of the batch an equal share.
            cells = {key: c.expand(rows, -1) for key, c in cells.items()}
            weights = torch.stack([c.abs() for c in cells.values()])
            share = weights / weights.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
            rise = method.rise(torch.stack(list(cells.values())).sum(0))
            sums = self.sums[name]
            for key, part in zip(cells, (share * rise).sum(1), strict=True):
                sums[key] = sums[key] + part if key in sums else part
            self.rows[name] += rows

    def parts(self) -> dict[str, dict[str, np.ndarray]]:
        """Means over observations."""
        return {
            name: {cell: (total / self.rows[name]).numpy() for cell, total in sums.items()}
            or {"": np.zeros(self.sizes[name])}
            for name, sums in self.sums.items()
        }
