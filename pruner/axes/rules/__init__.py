"""How the axes of each operator's inputs and outputs correspond: one small rule an operator family.

An operator without a rule freezes every axis that it touches and is named in the trace's report.
"""

from . import (
    attention,
    constants,
    contraction,
    elementwise,
    normalization,
    patches,
    quantization,
    recurrent,
    reduction,
    reshape,
    shape,
    spatial,
)
from .base import RULES

__all__ = [
    "RULES", "attention", "constants", "contraction", "elementwise", "normalization", "patches",
    "quantization", "recurrent", "reduction", "reshape", "shape", "spatial",
]  # fmt: skip
