"""Measures where neither torch nor this package runs: bundles, and what carries them.

A ``RemoteEngine`` takes jobs and gives results; ``measurement`` makes readings of them as of any.
"""

from .bundle import read_bundle, write_bundle
from .by_hand import BundledEngine, CollectedEngine
from .carried import CarriedEngine
from .carriers import LOG, Carrier, open_carrier
from .fleet import FleetEngine
from .job import Job, JobModel, Pace, Setting, make_comparison, make_probe_job
from .machine import GpuState, MachineState, inspect_gpu, inspect_machine
from .remote import RemoteEngine
from .result import BuildResult, JobResult, read_results
from .tools import TOOLS

__all__ = [
    "BuildResult", "BundledEngine", "CarriedEngine", "Carrier", "CollectedEngine", "FleetEngine",
    "GpuState", "Job", "JobModel", "JobResult", "LOG", "MachineState", "Pace", "RemoteEngine",
    "Setting", "TOOLS", "inspect_gpu", "inspect_machine", "make_comparison", "make_probe_job",
    "open_carrier", "read_bundle", "read_results", "write_bundle",
]  # fmt: skip
