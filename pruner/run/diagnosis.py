"""What of all that msprune can use is here: plain data for the verb doctor."""

import configparser
import importlib.metadata
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from latency_tables import (
    EngineAvailability,
    GpuState,
    MachineState,
    inspect_gpu,
    inspect_machine,
    list_engines,
)

PURPOSES = {
    "openvino": "--engine openvino, export --format openvino",
    "tensorrt": "--engine tensorrt with NVIDIA's own TensorRT",
    "tensorrt-rtx": "--engine tensorrt by TensorRT-RTX, which brings its libraries along",
    "nncf": "export --format openvino --precision int8",
    "coreml": "export --format coreml",
    "litert": "export --format litert",
    "executorch": "export --format executorch",
    "zoo": "MODEL timm:, torchvision: and hf:",
    "tasks": "mean average precision of detectors, metrics of torchmetrics",
    "datasets": "data sets that Hugging Face's library has saved",
}
"""Extra of setup.cfg -> what it is for; those for working on msprune itself are left out."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")
_DISTRIBUTION = "msprune"


@dataclass(frozen=True)
class Package:
    """A package that msprune uses: its version here; None where it is not installed."""

    name: str
    version: str | None


@dataclass(frozen=True)
class ExtraState:
    """An extra of msprune: what it is for, which of its packages are here and which are not."""

    name: str
    purpose: str
    packages: tuple[Package, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(package.name for package in self.packages if package.version is None)

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f'pip install "{_DISTRIBUTION}[{self.name}]"'


@dataclass(frozen=True)
class Diagnosis:
    """This machine, as msprune would use it.

    Attributes:
        version: Of msprune; None in a checkout that is not installed.
        machine: Processor, memory, and their state.
        gpu: The first GPU, or why there is none.
        torch_threads: Threads that torch computes with by itself.
        variables: What in the environment sets numbers of threads and places.
        engines: Every engine, and what it lacks.
        needed: The packages that msprune cannot do without.
        extras: Its extras.
        advice: What to change before latencies are measured, one line each.
    """

    version: str | None
    machine: MachineState
    gpu: GpuState
    torch_threads: int
    variables: Mapping[str, str]
    engines: tuple[EngineAvailability, ...]
    needed: tuple[Package, ...]
    extras: tuple[ExtraState, ...]
    advice: tuple[str, ...]


_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "MSPRUNE_CACHE", "HF_HUB_OFFLINE",
)  # fmt: skip


def diagnose() -> Diagnosis:
    """Look at this machine; nothing is measured and nothing written."""
    machine, requirements = inspect_machine(), read_requirements()
    return Diagnosis(
        version=find_version(_DISTRIBUTION),
        machine=machine,
        gpu=inspect_gpu(),
        torch_threads=torch.get_num_threads(),
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        engines=list_engines(),
        needed=_list_packages(requirements.get("", ())),
        extras=tuple(
            ExtraState(name, purpose, _list_packages(requirements.get(name, ())))
            for name, purpose in PURPOSES.items()
        ),
        advice=advise(machine),
    )


def advise(machine: MachineState) -> tuple[str, ...]:
    """Say what of a machine's state makes latencies worse or unsteady."""
    advice = []
    governors = re.findall(r"governor ([\w/]+)", machine.power)
    if governors and set(governors[0].split("/")) != {"performance"}:
        advice.append(
            f"the governor is {governors[0]}, under which clocks change with the load: sudo "
            "cpupower frequency-set -g performance"
        )
    if machine.throttled:
        advice.append("clocks are held down (heat, or the supply): let it cool, and measure then")
    if machine.load is not None and machine.load >= 0.5:
        advice.append(
            f"{machine.load:.1f} processes computed in the last minute: measure on a quiet machine"
        )
    if machine.cpu_quota is not None and machine.cpu_quota < machine.cores:
        advice.append(
            f"this container gets {machine.cpu_quota:g} cores' worth of time on {machine.cores} "
            f"cores: measure with at most --threads {max(1, int(machine.cpu_quota))}"
        )
    if 0 < machine.free_bytes < 2 << 30:
        advice.append(f"{machine.free_bytes / 1e9:.1f} GB of memory are free: close what holds it")
    return tuple(advice)


def read_requirements() -> dict[str, tuple[str, ...]]:
    """Return the names of what each extra needs, "" for what is always needed.

    Of the installed distribution; in a checkout that is not, of the setup.cfg beside the packages.
    """
    with suppress(importlib.metadata.PackageNotFoundError):
        return _group_lines(importlib.metadata.requires(_DISTRIBUTION) or ())
    file = Path(__file__).parents[2] / "setup.cfg"
    parser = configparser.ConfigParser()
    parser.read(file, encoding="utf-8")
    lines = parser.get("options", "install_requires", fallback="").split("\n")
    if parser.has_section("options.extras_require"):
        for extra, text in parser.items("options.extras_require"):
            lines += [f'{line.partition(";")[0]}; extra == "{extra}"' for line in text.split("\n")]
    return _group_lines(lines)


def find_version(name: str) -> str | None:
    """Return the version of an installed distribution; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _group_lines(lines: "list[str] | tuple[str, ...]") -> dict[str, tuple[str, ...]]:
    """Group requirement lines by the extra in their marker."""
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        name, extra = _NAME.match(line.strip()), _EXTRA.search(line)
        if name is not None:
            key = extra[1] if extra is not None else ""
            found[key] = (*found.get(key, ()), name[0])
    return found


def _list_packages(names: tuple[str, ...]) -> tuple[Package, ...]:
    return tuple(Package(name, find_version(name)) for name in names)
