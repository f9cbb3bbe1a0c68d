"""What this machine is and in what state, by the functions that describe a device elsewhere."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ..engines import describe_gpu, open_cuda
from ..errors import EngineError
from .runner import device_facts as facts

_GPU_STATE = ("clocks.sm", "clocks.max.sm", "memory.total", "memory.used", "temperature.gpu",
              "persistence_mode")  # fmt: skip


@dataclass(frozen=True)
class MachineState:
    """This machine's processor and memory.

    Attributes:
        processor: Its model, as the system names it.
        instructions: The vector instruction sets that decide which kernels an engine picks.
        cores: Logical cores that the process may run on.
        all_cores: Logical cores of the machine.
        cpu_quota: Cores' worth of time that the process's container is given; None: no limit.
        clock_mhz: Of now; None where the system does not say.
        power: Governor, highest clocks and power mode, as far as the system tells.
        board: What the processor sits on, where the system names it.
        temperature: Of the hottest zone, in degrees Celsius; None where there is none.
        throttled: Whether the system shows that clocks are held down.
        load: Processes that computed in the last minute, on average; None where it is not known.
        memory_bytes: Of the machine; 0 where it is not known.
        free_bytes: Of it, what programs can still have.
    """

    processor: str
    instructions: str
    system: str
    python: str
    cores: int
    all_cores: int
    cpu_quota: float | None
    clock_mhz: float | None
    power: str
    board: str
    temperature: float | None
    throttled: bool
    load: float | None
    memory_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class GpuState:
    """The first GPU that a process would use.

    Attributes:
        name: The model; empty where none can be used, and missing says why.
        capability: ``sm_90``.
        driver: Its version.
        state: Clocks, memory and temperature, as ``nvidia-smi`` tells them.
    """

    name: str = ""
    capability: str = ""
    driver: str = ""
    state: str = ""
    missing: str = ""


def inspect_machine() -> MachineState:
    """Read this machine's state; nothing is run on it and nothing written."""
    processor, instructions, clock = facts.describe_processor()
    memory = _read_memory()
    return MachineState(
        processor=processor,
        instructions=instructions,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_version()} ({sys.executable})",
        cores=facts.count_cores(),
        all_cores=os.cpu_count() or 1,
        cpu_quota=_read_quota(),
        clock_mhz=clock,
        power=facts.describe_power(),
        board=facts.describe_board(),
        temperature=facts.read_temperature(),
        throttled=facts.is_throttled(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory_bytes=memory.get("MemTotal", 0),
        free_bytes=memory.get("MemAvailable", 0),
    )


def inspect_gpu() -> GpuState:
    """Open the first GPU and read its state."""
    try:
        device = describe_gpu(open_cuda(), "", "", "")
    except EngineError as error:
        return GpuState(missing=str(error))
    command = [f"--query-gpu={','.join(_GPU_STATE)}", "--format=csv,noheader", "--id=0"]
    values = facts.run_quietly(["nvidia-smi", *command]).split(", ")
    told = zip(_GPU_STATE, values) if len(values) == len(_GPU_STATE) else ()
    state = ", ".join(f"{name} {value}" for name, value in told)
    return GpuState(device.processor, device.instructions, device.driver, state)


def _read_memory() -> dict[str, int]:
    """Return the numbers of /proc/meminfo in bytes, by name."""
    found = {}
    for line in facts.read_text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            found[name] = 1024 * int(number[0])
    return found


def _read_quota() -> float | None:
    """Return the cores' worth of time of a container: of cgroups, version 2 or 1."""
    words = facts.read_text("/sys/fs/cgroup/cpu.max").split()
    if not words and Path("/sys/fs/cgroup/cpu").is_dir():
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [facts.read_text(f"/sys/fs/cgroup/cpu/{name}") for name in names]
    if len(words) != 2 or not all(word.isdigit() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])
