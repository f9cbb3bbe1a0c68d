"""The criteria by name."""

from __future__ import annotations

from ..errors import PrunerError
from ..utils import suggest_names
from .activation import Activation
from .base import Criterion
from .bn_scale import NormScale
from .calibrated import CalibratedCriterion
from .fisher import Fisher, TaylorSample
from .fpgm import GeometricMedian
from .hessian import Hessian
from .magnitude import L2, Magnitude
from .measured import MeasuredCriterion
from .network_criterion import NetworkCriterion
from .random_baseline import RandomBaseline
from .reconstruction import Reconstruction
from .refined import RefinedCriterion
from .taylor import Taylor, TaylorRead, TaylorWeight

CRITERIA: dict[str, type[Criterion] | type[NetworkCriterion]] = {
    c.name: c
    for c in (
        Taylor, TaylorWeight, TaylorRead, TaylorSample, Fisher, Hessian, MeasuredCriterion,
        CalibratedCriterion, RefinedCriterion, Reconstruction, Activation, Magnitude, L2, NormScale,
        GeometricMedian, RandomBaseline,
    )
}  # fmt: skip


def find_criterion(name: str) -> Criterion | NetworkCriterion:
    """Build the criterion of a name; PrunerError names the known ones."""
    if name not in CRITERIA:
        hint = suggest_names(name, CRITERIA, 1, 0.6, repr)
        hint = f" ({hint})" if hint else ""
        raise PrunerError(f"unknown criterion {name!r}{hint}; known: {', '.join(sorted(CRITERIA))}")
    return CRITERIA[name]()
