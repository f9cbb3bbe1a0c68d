"""Turns readings into a table that predicts: normalized, fitted, cross-validated and stored.

A ``Reading`` is what one probe took; a ``LatencyTable`` fits curves to many of them.
"""

from .calibration import Calibration
from .cross_validation import HeldOutProbe, cross_validate, predict_held_out, predict_unseen
from .journal import Journal, journal_path
from .library import Library, library_folder
from .normalize import Sample, find_usual_ms, remove_drift
from .reading import DRIFTED, CellReading, Reading, average_readings, structure_key
from .storage import finish_save, header_path, parquet_path
from .table import LatencyTable, TableError, join_tables
from .useful_sizes import find_useful_sizes
from .whole_probes import is_whole

__all__ = [
    "Calibration", "CellReading", "DRIFTED", "HeldOutProbe", "Journal", "LatencyTable", "Library",
    "Reading", "Sample", "TableError", "average_readings", "cross_validate", "find_useful_sizes",
    "find_usual_ms", "finish_save", "header_path", "is_whole", "join_tables", "journal_path",
    "library_folder", "parquet_path", "predict_held_out", "predict_unseen", "remove_drift",
    "structure_key",
]  # fmt: skip
