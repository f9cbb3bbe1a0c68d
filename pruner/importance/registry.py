"""The criteria by name."""

from __future__ import annotations

from ..errors import PrunerError
from ..utils import suggest_names
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
        hint = suggest_names(name, CRITERIA, 1, 0.6, repr)
        hint = f" ({hint})" if hint else ""
        raise PrunerError(f"unknown criterion {name!r}{hint}; known: {', '.join(sorted(CRITERIA))}")
    return CRITERIA[name]()
