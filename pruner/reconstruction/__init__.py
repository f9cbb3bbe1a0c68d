"""Layer-wise reconstruction: layers behind a cut, refitted by ridge regression on samples."""

from .layer_samples import draw_positions, mark_holdout, split_groups
from .linear_reads import LinearRead, find_norm, find_reads, get_shapes
from .reconstruct import repair
from .ridge import Moments, fit_ridge
from .weight_views import WeightViews

__all__ = [
    "LinearRead", "Moments", "WeightViews", "draw_positions", "find_norm", "find_reads",
    "fit_ridge", "get_shapes", "mark_holdout", "repair", "split_groups",
]  # fmt: skip
