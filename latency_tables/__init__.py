"""Latency tables: layers measured in place on a device, stored, and predicted.

``measure`` runs probes of a network on an ``engine`` and returns a ``LatencyTable``; ``check``
verifies one structure on the device; ``compare`` times networks against each other.
"""

from .bench import compare
from .check import Check, check
from .context import Context
from .device import Device
from .engine import Engine, Profile, Session, Step, engine, engine_names
from .errors import (
    DamagedTableError,
    DeviceMismatchError,
    EngineError,
    LatencyError,
    MissingSpecError,
    UnknownEngineError,
)
from .library import Library, library_folder
from .measure import Progress, measure, measure_structure
from .options import worthwhile
from .plan import network_digest
from .reading import CellReading, Reading
from .reconcile import Sample
from .source import Probe, ProbeSource
from .spec import Cell, LayerSpec
from .table import LatencyTable, TableError, joined
from .timing import Timing

__all__ = [
    "Cell",
    "CellReading",
    "Check",
    "Context",
    "DamagedTableError",
    "Device",
    "DeviceMismatchError",
    "Engine",
    "EngineError",
    "LatencyError",
    "LatencyTable",
    "LayerSpec",
    "Library",
    "MissingSpecError",
    "Probe",
    "ProbeSource",
    "Profile",
    "Progress",
    "Reading",
    "Sample",
    "Session",
    "Step",
    "TableError",
    "Timing",
    "UnknownEngineError",
    "check",
    "compare",
    "engine",
    "engine_names",
    "joined",
    "library_folder",
    "measure",
    "measure_structure",
    "network_digest",
    "worthwhile",
]
