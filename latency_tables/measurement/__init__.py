"""Measures networks on a device: whole tables, single structures, and one against another."""

from .campaign import MeasureProgress
from .check import Check, check
from .compare import compare
from .measure import measure, measure_structure, write_probe_bundle

__all__ = [
    "Check",
    "MeasureProgress",
    "check",
    "compare",
    "measure",
    "measure_structure",
    "write_probe_bundle",
]
