"""Host: the whole model that a part is pruned in, and PartTask, which judges the part by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..graph import child_modules, copy_model, find_device, unwrap_model
from ..tasks import Call, Task, WrappedTask, copy_tensors, record_calls
from .submodule import find_submodule, list_plain_attributes


class Host:
    """A copy of a model in evaluation mode, in which other modules take a part's place for a while.

    Attributes:
        model: The whole, with the part of before; its parameters are not trained.
        part: The part of before.
    """

    def __init__(self, model: nn.Module, path: str) -> None:
        """Copy a model; PrunerError where it has no submodule of that dotted name."""
        self.model = copy_model(unwrap_model(model)).eval().requires_grad_(False)
        self.part = find_submodule(self.model, path)
        self._places = [
            (parent, name)
            for parent in self.model.modules()
            for name, child in child_modules(parent).items()
            if child is self.part
        ]
        self._plain = list_plain_attributes(self.part)

    def move(self, device: torch.device) -> None:
        """Bring the whole to a device."""
        if find_device(self.model) != device:
            self.model.to(device)

    @contextmanager
    def put(self, part: nn.Module) -> Iterator[nn.Module]:
        """Yield the whole with another module in the part's place, wherever it is called from.

        Attributes of the old part that the rest may look up are lent to the new one.
        """
        lent = {name: value for name, value in self._plain.items() if not hasattr(part, name)}
        try:
            for name, value in lent.items():
                setattr(part, name, value)
            for parent, name in self._places:
                setattr(parent, name, part)
            yield self.model
        finally:
            for parent, name in self._places:
                setattr(parent, name, self.part)
            for name in lent:
                delattr(part, name)


class PartTask(WrappedTask):
    """A task of a whole model, asked about one of its parts.

    The network that is scored, repaired and trained is the part; what is called, compared and
    judged is the whole with the part in its place.
    """

    def __init__(self, task: Task, host: Host) -> None:
        """Take the whole's task and the whole."""
        super().__init__(task)
        self.host = host

    @property
    def calls_once(self) -> bool:
        """False: the whole decides what the part is called with, and how often."""
        return False

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Any:
        """Return the whole's outputs with a part in its place."""
        if any(True for _ in module.parameters()):
            self.host.move(find_device(module))
        with self.host.put(module) as whole:
            return self.task.forward(whole, inputs, targets)

    def list_calls(self, module: nn.Module, inputs: Any) -> list[Call]:
        """Return what the part of before is called with when the whole runs on inputs."""
        self.host.move(find_device(module))
        return record_calls(self.task, self.host.model, self.host.part, inputs)

    def complete(self, results: Sequence[Any], inputs: Any) -> Any:
        """Return the whole's outputs if the part's calls return these results."""
        return super().complete(copy_tensors(list(results)), inputs)
