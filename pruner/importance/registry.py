"""The criteria by name."""

from __future__ import annotations

from difflib import get_close_matches

from ..errors import PrunerError
from .activation import Activation
from .base import Criterion
from .calibrated import Calibrated
from .fisher import Fisher, TaylorSample
from .fpgm import GeometricMedian
from .hessian import Hessian
from .magnitude import L2, Magnitude, NormScale, Random
from .measured import Measured
from .network_criterion import NetworkCriterion
from .reconstruction import Reconstruction
from .refined import Refined
from .taylor import Taylor, TaylorRead, TaylorWeight

CRITERIA: dict[str, type[Criterion] | type[NetworkCriterion]] = {
    c.name: c
    for c in (
        Taylor,
        TaylorWeight,
        TaylorRead,
        TaylorSample,
        Fisher,
        Hessian,
        Measured,
        Calibrated,
        Refined,
        Reconstruction,
        Activation,
        Magnitude,
        L2,
        NormScale,
        GeometricMedian,
        Random,
    )
}


def find_criterion(name: str) -> Criterion | NetworkCriterion:
    """The criterion of that name; PrunerError names the known ones."""
    if name not in CRITERIA:
        close = get_close_matches(name, CRITERIA, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise PrunerError(f"unknown criterion {name!r}{hint}; known: {', '.join(sorted(CRITERIA))}")
    return CRITERIA[name]()
