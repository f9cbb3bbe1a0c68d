"""Cells' times from whole probes, where an engine names no operators in what it profiles."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from ..timing import estimate_work
from .reading import Reading

# How far a kind of layer may be from the common rate for nothing: its square weighs against the
# squares of the probes' relative errors.
_RIDGE = 0.05


def is_whole(reading: Reading) -> bool:
    """Tell whether only the total of a reading was measured: no kernel is known for any cell."""
    return bool(reading.cells) and not any(cell.kernels for cell in reading.cells)


def split_totals(
    readings: Sequence[Reading], totals_ms: Sequence[float]
) -> list[tuple[float, ...]]:
    """Split the totals of whole readings among their cells, so that they add up.

    Every kind of layer has a rate, milliseconds a unit of its estimated work; the rates are those
    that make up all totals best (non-negative least squares of relative errors), drawn towards one
    common rate, since there may be more kinds than probes.
    """
    specs = sorted({cell.spec for own in readings for cell in own.cells}, key=str)
    index = {spec: number for number, spec in enumerate(specs)}
    work = [[estimate_work(c.spec, c.sizes) for c in own.cells] for own in readings]
    sums = np.zeros((len(readings), len(specs)))
    for row, own in enumerate(readings):
        for cell, amount in zip(own.cells, work[row], strict=True):
            sums[row, index[cell.spec]] += amount
    totals = np.asarray(totals_ms, dtype=np.float64)
    common = float(np.median(totals / sums.sum(axis=1)))
    relative = common * sums / totals[:, None]
    share = relative.mean(axis=0)  # of the total that a kind makes up
    ridge = _RIDGE * np.diag(np.sqrt(share / share.sum()))
    target = np.concatenate([np.ones(len(totals)), ridge.sum(axis=1)])
    rates = nnls(np.concatenate([relative, ridge]), target)[0]
    found = []
    for own, amounts, total in zip(readings, work, totals, strict=True):
        # No layer comes out at nothing, however little the totals tell of it.
        parts = np.array([
            max(rates[index[cell.spec]], 0.05) * amount
            for cell, amount in zip(own.cells, amounts, strict=True)
        ])  # fmt: skip
        found.append(tuple((total * parts / parts.sum()).tolist()))
    return found
