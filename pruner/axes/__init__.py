"""How the axes of a graph correspond, and what is left of it when some of their indices go.

An axis is a sum of products of atoms (`algebra`); rules, one an operator family, say which axes are
one (`rules`, `propagate`); a trial cut freezes what they got wrong (`validate`); `slicing` cuts.
"""

from .algebra import (
    Atom,
    Axis,
    Product,
    Sum,
    atoms_of,
    factors_of,
    is_free,
    parts_of,
    remove_atom,
    resolve_axis,
    split_product,
)
from .axis_map import Axes, AxisMap, describe_node
from .positions import Keep, axis_owners, axis_size, kept_mask, owner_indices
from .propagate import propagate_axes
from .rules.base import has_rule, is_pointwise, rule
from .rules.contraction import CONVOLUTIONS, MAP, PRODUCTS, TRANSPOSED, parse_equation
from .rules.normalization import NORMALIZATIONS
from .rules.quantization import OBSERVERS
from .rules.recurrent import GATES
from .rules.reduction import COUNTS, EXTREMES, REDUCTIONS, SOFTMAXES, VECTOR_NORMS
from .rules.spatial import AVERAGES, POOLINGS, UPSAMPLINGS
from .slicing import cut_program, group_by_module, list_modules_around
from .validate import validate_axes

__all__ = [
    "AVERAGES", "Atom", "Axes", "Axis", "AxisMap", "CONVOLUTIONS", "COUNTS", "EXTREMES", "GATES",
    "Keep", "MAP", "NORMALIZATIONS", "OBSERVERS", "POOLINGS", "PRODUCTS", "Product", "REDUCTIONS",
    "SOFTMAXES", "Sum", "TRANSPOSED", "UPSAMPLINGS", "VECTOR_NORMS", "atoms_of", "axis_owners",
    "axis_size", "cut_program", "describe_node", "factors_of", "group_by_module", "has_rule",
    "is_free", "is_pointwise", "kept_mask", "list_modules_around", "owner_indices",
    "parse_equation", "parts_of", "propagate_axes", "remove_atom", "resolve_axis", "rule",
    "split_product", "validate_axes",
]  # fmt: skip
