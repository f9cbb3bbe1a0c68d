"""Latency tables: layers measured in place on a device, stored, and predicted.

``measure`` runs probes of a network on an ``engine`` and returns a ``LatencyTable``; ``check``
verifies one structure on the device; ``compare`` times networks against each other.
"""

from .device import Device
from .devices import (
    LOG,
    TOOLS,
    BundledEngine,
    CarriedEngine,
    CollectedEngine,
    FleetEngine,
    GpuState,
    MachineState,
    RemoteEngine,
    Setting,
    inspect_gpu,
    inspect_machine,
    open_carrier,
)
from .engines import (
    Engine,
    EngineAvailability,
    Profile,
    Session,
    Step,
    engine,
    engine_names,
    list_engines,
)
from .errors import (
    CarrierError,
    DamagedBundleError,
    DamagedTableError,
    DeviceMismatchError,
    EngineError,
    LatencyError,
    MissingSpecError,
    UnfinishedError,
    UnknownEngineError,
)
from .measurement import (
    Check,
    MeasureProgress,
    check,
    compare,
    measure,
    measure_structure,
    write_probe_bundle,
)
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
    predict_unseen,
)
from .source import Probe, ProbeSource, network_digest
from .spec import Cell, LayerSpec
from .timing import Timing, time_calls

DEVICE_LOG = LOG
"""Where it is logged what is run elsewhere."""

# Former names.
Context, Progress = Calibration, MeasureProgress
joined, worthwhile = join_tables, find_useful_sizes

__all__ = [
    "BundledEngine", "Calibration", "CarriedEngine", "CarrierError", "Cell", "CellReading", "Check",
    "CollectedEngine", "Context", "DEVICE_LOG", "DamagedBundleError", "DamagedTableError", "Device",
    "DeviceMismatchError", "Engine", "EngineAvailability", "EngineError", "FleetEngine", "GpuState",
    "LatencyError", "LatencyTable", "LayerSpec", "Library", "MachineState", "MeasureProgress",
    "MissingSpecError", "Probe", "ProbeSource", "Profile", "Progress", "Reading", "RemoteEngine",
    "Sample", "Session", "Setting", "Step", "TOOLS", "TableError", "Timing", "UnfinishedError",
    "UnknownEngineError", "check", "compare", "engine", "engine_names", "find_useful_sizes",
    "inspect_gpu", "inspect_machine", "join_tables", "joined", "library_folder", "list_engines",
    "measure", "measure_structure", "network_digest", "open_carrier", "predict_unseen",
    "time_calls", "worthwhile", "write_probe_bundle",
]  # fmt: skip
