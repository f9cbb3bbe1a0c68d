"""Refits layers whose inputs were cut, by least squares on calibration images."""

from .layer_samples import draw, grouped, read
from .reconstruct import repair
from .ridge import Moments, fit

__all__ = [
    "Moments", "draw", "fit", "grouped", "read", "repair",
]  # fmt: skip
