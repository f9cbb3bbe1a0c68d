"""A device whose latencies are known by formula, and a network without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np

from latency_tables import Cell, Device, LayerSpec, Probe, Profile, Step
from latency_tables.engines import Lap

DEVICE = Device("Fake CPU", "", 2, "Linux", "fake", "1.0", 1, "fp32")
OVERHEAD_MS = 0.02  # around each kernel, and once for the network


def stairs(sizes: Sequence[int]) -> float:
    """The latency of a layer on the fake device: tiles of 16, and a price for misaligned widths."""
    up = [int(np.ceil(size / 16)) * 16 for size in sizes]
    return 0.05 + 1e-4 * float(np.prod(up)) + 0.002 * sum(s for s in sizes if s % 16)


@dataclass
class FakeEngine:
    """latency: sizes -> kernel milliseconds; speed: factor on everything, by call."""

    latency: Callable[[Sequence[int]], float] = stairs
    speed: Callable[[], float] = lambda: 1.0
    device: Device = DEVICE
    noise: float = 0.0
    name: str = "fake"
    version: str = "1.0"
    built: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def build(self, probe: Probe) -> FakeSession:
        self.built += 1
        return FakeSession(self, probe)


@dataclass
class FakeSession:
    engine: FakeEngine
    probe: Probe

    @cached_property
    def _kernels(self) -> list[float]:
        return [self.engine.latency(sizes) for sizes in self.probe.sizes.values()]

    def run(self) -> Lap:
        factor = self.engine.speed() * (
            1 + self.engine.noise * self.engine.random.standard_normal()
        )
        kernels = self._kernels
        ms = factor * (sum(kernels) + OVERHEAD_MS * (len(kernels) + 1))
        return Lap(ms, ms)

    def profile(self, runs: int) -> Profile:
        steps = [Step(f"{cell}/kernel", (cell,)) for cell in self.probe.sizes]
        laps = [self.run() for _ in range(runs)]
        return Profile(steps, self.engine.speed() * np.array([self._kernels] * runs), laps)

    def close(self) -> None:
        pass


def spec(number: int = 0) -> LayerSpec:
    return LayerSpec("conv2d", ("in_channels", "out_channels"), (("map", number),))


@dataclass
class FakeSource:
    """A chain of layers between Dims d0, d1, ...; two cells share each specification."""

    name: str = "chain"
    dims: int = 5
    widest: int = 96
    blocks: tuple[str, ...] = ()  # cells that can be dropped
    probes: list[Mapping[str, int]] = field(default_factory=list)

    def sizes(self) -> Mapping[str, Sequence[int]]:
        return {f"d{i}": tuple(range(8, self.widest + 1, 8)) for i in range(self.dims)}

    def cells(self) -> Sequence[Cell]:
        return [
            Cell(f"c{i}", spec(i // 2), (f"d{i}", f"d{i + 1}"), (self.widest, self.widest))
            for i in range(self.dims - 1)
        ]

    def removable(self) -> Sequence[str]:
        return self.blocks

    def cell_sizes(
        self, sizes: Mapping[str, int], dropped: Sequence[str] = ()
    ) -> dict[str, tuple[int, ...]]:
        width = {name: options[-1] for name, options in self.sizes().items()} | dict(sizes)
        return {
            cell.name: tuple(width[dim] for dim in cell.dims)
            for cell in self.cells()
            if cell.name not in dropped
        }

    def probe(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> Probe:
        self.probes.append(dict(sizes))
        widths = self.cell_sizes(sizes, dropped)
        batch = SimpleNamespace(shape=(1, 3, 8, 8))
        return Probe(None, (batch,), lambda: b"", {name: name for name in widths}, widths)


def other_device() -> Device:
    return replace(DEVICE, processor="Another CPU")
