"""The criteria by name."""

from ..errors import PrunerError
from ..utils import suggest_names
from .activation import Activation
from .base import Criterion, CustomCriterion, UserCriterion
from .bn_scale import NormScale
from .calibrated import CalibratedCriterion
from .domain_shift import DomainShift
from .fisher import Fisher, TaylorSample
from .fpgm import GeometricMedian
from .hessian import Hessian
from .magnitude import L2, Magnitude
from .measured import MeasuredCriterion
from .network_criterion import NetworkCriterion
from .random_baseline import RandomBaseline
from .reconstruction import Reconstruction
from .refined import RefinedCriterion
from .solution_path import SolutionPath
from .taylor import Taylor, TaylorRead, TaylorWeight

CRITERIA: dict[str, type[Criterion] | type[NetworkCriterion]] = {
    c.name: c
    for c in (
        Taylor, TaylorWeight, TaylorRead, TaylorSample, Fisher, Hessian, MeasuredCriterion,
        CalibratedCriterion, RefinedCriterion, SolutionPath, DomainShift, Reconstruction,
        Activation, Magnitude, L2, NormScale, GeometricMedian, RandomBaseline,
    )
}  # fmt: skip


def needs_target(criterion: str) -> bool:
    """Whether the criterion of a name looks at a second domain; not where the name is unknown."""
    return criterion in CRITERIA and CRITERIA[criterion].needs_target


def resolve_criterion(
    criterion: str | Criterion | NetworkCriterion | UserCriterion, batches: object
) -> Criterion | NetworkCriterion:
    """Build the criterion of a name or a function.

    Raises:
        PrunerError: The name is unknown, or the criterion needs batches and they are None.
    """
    if isinstance(criterion, str):
        if criterion not in CRITERIA:
            hint = suggest_names(criterion, CRITERIA, 1, 0.6, repr)
            known = ", ".join(sorted(CRITERIA))
            hint = f" ({hint})" if hint else ""
            raise PrunerError(f"unknown criterion {criterion!r}{hint}; known: {known}")
        method = CRITERIA[criterion]()
    elif isinstance(criterion, (Criterion, NetworkCriterion)):
        method = criterion
    elif callable(criterion):
        method = CustomCriterion(criterion, with_data=batches is not None)
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
