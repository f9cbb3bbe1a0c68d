"""Checkpoint: everything that a tuning run needs to go on, in one sealed file without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import PrunerError
from ..utils import digest_tensors, read_tensors, write_tensors
from .companion import Companion
from .reporting import EpochResult

CHECKPOINT = "checkpoint.safetensors"
Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The state between two optimizer steps.

    Random numbers need no state: every step draws its own from (seed, step).

    Attributes:
        identity: What run this is: structure, start, data and settings, JSON-encodable.
        step: Optimizer steps done.
        tensors: ``module/NAME``, ``average/NAME``, ``optimizer/PARAMETER/KEY``, ``companion/NAME``
            and ``sums``.
        notes: JSON-encodable rest: results, times, the optimizer's numbers.
    """

    identity: Identity
    step: int
    tensors: Mapping[str, Tensor]
    notes: Mapping[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write atomically."""
        header = {"identity": dict(self.identity), "step": self.step, "notes": dict(self.notes)}
        write_tensors(path, "checkpoint", self.tensors, header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Checkpoint:
        """Read what `save` wrote; PrunerError where it is truncated or edited."""
        tensors, header = read_tensors(path, "checkpoint")
        return Checkpoint(header["identity"], header["step"], tensors, header["notes"])

    def check(self, identity: Identity, path: Path) -> None:
        """Raise a PrunerError that says what differs, if this is a checkpoint of another run."""
        differences = [
            f"{key} ({_shorten(self.identity.get(key))} there, {_shorten(identity.get(key))} here)"
            for key in sorted({*self.identity, *identity})
            if self.identity.get(key) != identity.get(key)
        ]
        if differences:
            raise PrunerError(
                f"{path}: checkpoint of another run; it differs in {', '.join(differences)}; "
                "remove it to start over, or give another folder"
            )

    def select(self, name: str) -> dict[str, Tensor]:
        """Return the tensors under a prefix, without it."""
        start = name + "/"
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


@dataclass
class TrainingState:
    """What changes over a run.

    sums are those of this epoch in this process: samples, their metric, their loss, [3].
    epoch_began_s is the run's time when the epoch began; results are those of closed epochs.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    sums: Tensor
    companion: Companion | None = None
    step: int = 0
    epoch_began_s: float = 0.0
    results: list[EpochResult] = field(default_factory=list)

    def capture(self, identity: Identity, sums: Tensor, seconds: float) -> Checkpoint:
        """Return a checkpoint of the state; sums are those of all processes."""
        tensors, numbers = _flatten_optimizer(self.optimizer)
        parts = {"module": self.module.state_dict(), "optimizer": tensors}
        if self.average is not None:
            parts["average"] = self.average.module.state_dict()
        named = {f"{part}/{k}": v for part, found in parts.items() for k, v in found.items()}
        notes = {
            "optimizer": numbers, "scaler": self.scaler.state_dict(),
            "results": [asdict(result) for result in self.results],
            "spent_s": seconds, "epoch_began_s": self.epoch_began_s,
        }  # fmt: skip
        if self.companion is not None:
            own, notes["companion"] = self.companion.capture()
            named |= {f"companion/{name}": tensor for name, tensor in own.items()}
        return Checkpoint(identity, self.step, {**named, "sums": sums}, notes)

    def restore(self, saved: Checkpoint) -> None:
        """Load all but the sums from a checkpoint."""
        self.module.load_state_dict(saved.select("module"))
        _restore_optimizer(self.optimizer, saved.select("optimizer"), saved.notes["optimizer"])
        self.scaler.load_state_dict(saved.notes["scaler"])
        if self.average is not None:
            self.average.module.load_state_dict(saved.select("average"))
            self.average.n_averaged.fill_(saved.step + 1)
        if self.companion is not None:
            self.companion.restore(saved.select("companion"), saved.notes["companion"])
        self.results = [EpochResult.from_notes(result) for result in saved.notes["results"]]
        self.epoch_began_s, self.step = saved.notes["epoch_began_s"], saved.step


def _flatten_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's state as tensors and as numbers, by ``PARAMETER/KEY``."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for parameter, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{parameter}/{key}"] = value
    return tensors, numbers


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Load the state that `_flatten_optimizer` returned; settings stay those of the optimizer."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**numbers, **tensors}.items():
        parameter, _, key = name.partition("/")
        state.setdefault(int(parameter), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def digest(module: nn.Module | None) -> str:
    """Return a short digest of a network's state: names, shapes and values."""
    state = {} if module is None else dict(sorted(module.state_dict().items()))
    return digest_tensors(state, "{name}{shape}{dtype}")[:16]


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
