"""An engine that runs elsewhere: jobs go there, results come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from ..device import Device
from ..engines import export_model
from ..errors import EngineError, UnknownEngineError
from ..source import Probe
from .job import Job, Pace, Setting
from .litert_model import export_litert
from .result import JobResult
from .tools import TOOLS

# Engine -> what it may be asked to compute in.
PRECISIONS = {
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),
    **{name: tool.precisions for name, tool in TOOLS.items()},
}


class RemoteEngine(ABC):
    """What ``measure``, ``check`` and ``compare`` take where an ``Engine`` is not here.

    Attributes:
        setting: How the engine is set up over there, at batch 1.
        where: What the user calls the device.
        grows: Whether more can be asked for after an answer: probes until a table is good enough,
            and once more what was disturbed.
    """

    grows = True

    def __init__(self, where: str, setting: Setting) -> None:
        self.where, self.setting = where, setting
        known = PRECISIONS.get(setting.engine)
        if known is None:
            raise UnknownEngineError(
                f"engine {setting.engine!r} is not one that runs elsewhere: {', '.join(PRECISIONS)}"
            )
        if setting.precision not in known:
            raise EngineError(
                f"engine {setting.engine!r} runs {', '.join(known)}, not {setting.precision!r}"
            )
        if setting.threads < 1 or (self._family == "tensorrt" and setting.threads != 1):
            raise EngineError(f"threads is {setting.threads}; engine {setting.engine!r} cannot")
        self._asked: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The engine over there."""
        return self.setting.engine

    @property
    def version(self) -> str:
        """Its version over there."""
        return self.device.engine_version

    @property
    @abstractmethod
    def device(self) -> Device:
        """The device and setting, at batch 1."""

    @abstractmethod
    def run(
        self, campaign: str, jobs: Sequence[Job], pace: Pace, batch: int
    ) -> Iterator[JobResult]:
        """Run jobs over there; yield results as they come, in any order.

        Args:
            campaign: What the jobs are of, if their results may be taken over from an earlier
                call that was cut off; empty: they are measured now.
            jobs: What to measure.
            pace: How the time is shared among them.
            batch: The networks' batch.
        """

    def finish(self, campaign: str) -> None:  # noqa: B027 (nothing to do is a good answer)
        """Note that all results of a campaign are in a table now."""

    def count(self, key: str) -> int:
        """Count how often this was asked for before."""
        self._asked[key] += 1
        return self._asked[key] - 1

    def export(self, probe: Probe) -> bytes:
        """Export a network to the file that the engine over there reads."""
        if self._family == "litert":
            return export_litert(probe)
        return self.export_onnx(probe)

    def export_onnx(self, probe: Probe) -> bytes:
        """Export a network to ONNX as the engine over there takes it."""
        precision, symmetric = self.setting.precision, self._family == "tensorrt"
        if self._family == "openvino" and precision != "int8":
            precision = "fp32"  # half precision is the plugin's own choice of kernels
        return export_model(probe, precision, symmetric=symmetric)

    @property
    def _family(self) -> str:
        """What runs networks over there: the engine, or the one that a vendor's tool drives."""
        tool = TOOLS.get(self.setting.engine)
        return tool.engine if tool is not None else self.setting.engine

    def build(self, probe: Probe) -> NoReturn:
        """Refuse: networks are not run here."""
        raise EngineError(f"{self.where} is elsewhere: networks are timed there by measure, check")

    def set_batch(self, batch: int) -> Setting:
        """Return the setting at a batch."""
        return replace(self.setting, batch=batch)
