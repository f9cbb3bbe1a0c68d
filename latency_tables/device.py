"""Which machine, engine and setting a latency was measured on: two of them never mix."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .errors import DamagedTableError, DeviceMismatchError

_INSTRUCTIONS = (
    *("avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
# Fields that tables and libraries of before do not have.
_LATER = ("board", "power")


@dataclass(frozen=True)
class Device:
    """A device and the setting that it was used in.

    Attributes:
        processor: CPU or GPU model as the system names it.
        instructions: The vector instruction sets that decide which kernels an engine picks.
        cores: Logical cores that the process may use.
        batch: The first axis of the network's first input.
        driver: The accelerator's driver, empty for a CPU.
        options: How the engine was set up, where that is not its own default.
        board: What the processor sits on, where the system names it; of devices elsewhere.
        power: Governor, highest clocks and power mode; of devices elsewhere.
        clock_mhz: For the record only; not part of what makes two devices the same.
        host: As ``clock_mhz``.
    """

    processor: str
    instructions: str
    cores: int
    system: str
    engine: str
    engine_version: str
    threads: int
    precision: str
    batch: int = 1
    driver: str = ""
    options: str = ""
    board: str = ""
    power: str = ""
    clock_mhz: float | None = field(default=None, compare=False)
    host: str = field(default="", compare=False)

    def at_batch(self, batch: int) -> Device:
        """Return the same device and setting with another batch."""
        return replace(self, batch=batch)

    def check_same(self, other: Device, where: str) -> None:
        """Raise ``DeviceMismatchError``, naming every field in which ``other`` differs."""
        pairs = [
            (f.name, getattr(self, f.name), getattr(other, f.name))
            for f in fields(self)
            if f.compare
        ]
        different = [f"{name} is {b!r}, not {a!r}" for name, a, b in pairs if a != b]
        if different:
            raise DeviceMismatchError(
                f"{where} was measured on another device or setting: {'; '.join(different)}. "
                "Measure into another folder, or delete that table."
            )

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two devices the same, as texts; what came later only where it is known."""
        names = [f.name for f in fields(self) if f.compare]
        return tuple(
            str(getattr(self, name)) for name in names if name not in _LATER or getattr(self, name)
        )

    def to_json(self) -> dict[str, Any]:
        """Encode as plain values; what came later only where it is known."""
        return {k: v for k, v in asdict(self).items() if v or k not in _LATER}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Device:
        """Decode what ``to_json`` gave; raise ``DamagedTableError`` where a field is missing."""
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{name: value for name, value in data.items() if name in known})
        except TypeError as error:
            raise DamagedTableError(f"the device's description is incomplete: {error}") from error

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        driver = f", driver {self.driver}" if self.driver else ""
        more = "".join(f", {text}" for text in (self.options, self.power) if text)
        board = f"{self.board}: " if self.board else ""
        return (
            f"{board}{self.processor} ({self.cores} cores){driver}, {self.engine} "
            f"{self.engine_version}, {threads}, {self.precision}, batch {self.batch}{more}"
        )


def describe_cpu(
    engine: str, engine_version: str, threads: int, precision: str, options: str = ""
) -> Device:
    """Describe this machine's CPU, used by an engine in a setting."""
    model, flags, clock = _read_cpu_info()
    instructions = " ".join(name for name in _INSTRUCTIONS if name in flags)
    return Device(
        model, instructions, count_cores(), f"{platform.system()} {platform.machine()}", engine,
        engine_version, threads, precision, options=options, clock_mhz=clock, host=platform.node(),
    )  # fmt: skip


def count_cores() -> int:
    """Count the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_cpu_info() -> tuple[str, frozenset[str], float | None]:
    """Read the processor's model, its instruction sets, and its clock in MHz."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    first: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        first.setdefault(name.strip(), value.strip())
    model = first.get("model name", platform.processor() or platform.machine())
    if "cpu family" in first:  # virtual machines hide the name: "AMD EPYC", and no more
        model += f" (family {first['cpu family']}, model {first.get('model', '?')})"
    flags = frozenset((first.get("flags") or first.get("Features") or "").split())
    return model, flags, float(first["cpu MHz"]) if "cpu MHz" in first else None
