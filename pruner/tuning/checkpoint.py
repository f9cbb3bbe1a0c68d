"""Checkpoint: everything that a tuning run needs to go on, in one sealed file without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunerError
from ..utils import digest_tensors, read_tensors, write_tensors

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The state between two optimizer steps.

    identity
        What run this is: structure, start, data and settings, JSON-encodable; see `check`.
    step
        Optimizer steps done.
    tensors
        ``module/NAME``, ``average/NAME``, ``optimizer/PARAMETER/KEY`` and what else the run keeps.
    notes
        JSON-encodable rest: history, the optimizer's numbers.

    Random numbers need no state: they are drawn from (seed, step) anew at every step.
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
        """PrunerError that names what differs, if this is a checkpoint of another run."""
        told = [
            f"{key} ({_short(self.identity.get(key))} there, {_short(identity.get(key))} here)"
            for key in sorted({*self.identity, *identity})
            if self.identity.get(key) != identity.get(key)
        ]
        if told:
            raise PrunerError(
                f"{path}: checkpoint of another run; it differs in {', '.join(told)}; "
                "remove it to start over, or give another folder"
            )

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        start = name + "/"
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}


def prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensor names with a prefix, for `Checkpoint.part` to take off again."""
    return {f"{name}/{key}": value for key, value in tensors.items()}


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state per parameter, as named tensors and as numbers."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for parameter, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}/{key}"] = value
            else:
                numbers[f"{parameter}/{key}"] = value
    return tensors, numbers


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Put back what `flatten_optimizer` took; settings stay those of the optimizer."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**numbers, **tensors}.items():
        parameter, _, key = name.partition("/")
        state.setdefault(int(parameter), {})[key] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


def digest(module: nn.Module | None) -> str:
    """A short digest of a network's state: names, shapes and values."""
    state = {} if module is None else dict(sorted(module.state_dict().items()))
    return digest_tensors(state, "{name}{shape}{dtype}")[:16]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
