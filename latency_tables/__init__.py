"""Latency tables: layers measured in place on a device, stored, and predicted.

``measure`` runs probes of a network on an ``engine`` and returns a ``LatencyTable``; ``check``
verifies one structure on the device; ``compare`` times networks against each other.
"""

from .device import Device
from .engines import Engine, Profile, Session, Step, engine, engine_names
from .errors import (
    DamagedTableError,
    DeviceMismatchError,
    EngineError,
    LatencyError,
    MissingSpecError,
    UnknownEngineError,
)
from .measurement import Check, MeasureProgress, check, compare, measure, measure_structure
from .regression import (
    Calibration,
    CellReading,
    LatencyTable,
    Library,
    Reading,
    Sample,
    TableError,
    find_useful_sizes,
    join_tables,
    library_folder,
)
from .source import Probe, ProbeSource, network_digest
from .spec import Cell, LayerSpec
from .timing import Timing

# Former names.
Context, Progress = Calibration, MeasureProgress
joined, worthwhile = join_tables, find_useful_sizes

__all__ = [
    "Calibration", "Cell", "CellReading", "Check", "Context", "DamagedTableError", "Device",
    "DeviceMismatchError", "Engine", "EngineError", "LatencyError", "LatencyTable", "LayerSpec",
    "Library", "MeasureProgress", "MissingSpecError", "Probe", "ProbeSource", "Profile", "Progress",
    "Reading", "Sample", "Session", "Step", "TableError", "Timing", "UnknownEngineError", "check",
    "compare", "engine", "engine_names", "find_useful_sizes", "join_tables", "joined",
    "library_folder", "measure", "measure_structure", "network_digest", "worthwhile",
]  # fmt: skip
