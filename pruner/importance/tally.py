"""Tally: sums a criterion's contributions over the slots of every Dim, batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sized

import numpy as np
import torch
from torch import Tensor

from ..data import Batch, count_samples
from ..errors import PrunerError
from ..gates import fold_positions
from ..structure import Dim
from .base import Callback, Criterion, Loss, Subject


class Tally:
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


def add_batches(
    tally: Tally, batches: Iterable[Batch], loss: Loss | None, progress: Callback
) -> None:
    """Run a criterion's network on batches and add what it contributes; PrunerError without any."""
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
            method.begin_batch(require_batch(method.name, count, batch))
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


def require_batch(name: str, number: int, batch: Batch) -> int:
    """Return a batch's samples; PrunerError where there are none."""
    samples = count_samples(batch[0])
    if not samples:
        raise PrunerError(f"criterion {name!r}: batch {number} is empty: its inputs hold no sample")
    return samples
