"""Layer-wise reconstruction: layers behind a cut, refitted by ridge regression on images."""

from .layer_samples import draw_positions, mark_holdout, sample_inputs, split_groups
from .reconstruct import repair
from .ridge import Moments, fit_ridge

__all__ = [
    "Moments", "draw_positions", "fit_ridge", "mark_holdout", "repair", "sample_inputs",
    "split_groups",
]  # fmt: skip
