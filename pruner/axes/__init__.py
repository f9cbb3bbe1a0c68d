"""How the axes of a graph correspond, and what is left of it when some of their indices go.

An axis is a sum of products of atoms (`algebra`); rules, one an operator family, say which axes are
one (`rules`, `propagate`); a trial cut freezes what they got wrong (`validate`); `slicing` cuts.
"""

from .algebra import (
    Atom,
    Axis,
    Product,
    Sum,
    atoms,
    axis_size,
    factors_of,
    freeze,
    is_free,
    mask,
    owner,
    owners,
    parts_of,
    resolve,
)
from .propagate import propagate_axes
from .rules.base import Axes, AxisMap, is_pointwise
from .rules.reduction import REDUCTIONS
from .slicing import cut
from .validate import validate_axes

__all__ = [
    "Atom", "Axes", "Axis", "AxisMap", "Product", "REDUCTIONS", "Sum", "atoms", "axis_size", "cut",
    "factors_of", "freeze", "is_free", "is_pointwise", "mask", "owner", "owners", "parts_of",
    "propagate_axes", "resolve", "validate_axes",
]  # fmt: skip
