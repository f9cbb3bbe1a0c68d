"""How many probes a table elsewhere takes: until its held-out error is small enough."""

import numpy as np

from ..regression import LatencyTable, TableError

STAGES = (20, 30, 40, 50)
"""Probes after which the error is looked at; the last number is the most."""
MEDIAN, P95 = 0.02, 0.05
_MORE = 10


def is_good(error: TableError | None) -> bool:
    """Tell whether a held-out error is one at which no more probes are asked for."""
    return error is not None and error.median <= MEDIAN and error.p95 <= P95


def describe_growth(table: LatencyTable, probes: int) -> str:
    """Say why no more probes were asked for, and what more would bring.

    An error that is made of independent ones falls with the root of the number of probes at best.
    What they would take is what those that are there took, all repeats of one included.
    """
    if table.error is None:
        return f"{probes} probes are too few to tell the error"
    minutes = _MORE * float(np.median([own.seconds for own in table.readings])) / 60
    best = table.error.p95 * (probes / (probes + _MORE)) ** 0.5
    why = "the error is small enough" if is_good(table.error) else "that is the most"
    return (
        f"{probes} probes, as {why}; {_MORE} more (--probes {probes + _MORE}, {minutes:.1f} "
        f"minutes of the device) would bring the 95th percentile to {best:.1%} at best"
    )


def describe_regression(error: TableError | None) -> str:
    """Say that cells have their times from whole probes, and how far off that is."""
    known = "by an error that too few probes tell" if error is None else f"held out: {error}"
    return (
        "the engine names no layers, or runs several as one: the layers' times are a regression of "
        f"whole probes ({known})"
    )
