"""NetworkCalls: what a network is called with on batches, to run its graph in stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import fx

from ..data import Batch, require_samples
from ..graph import flatten_arguments
from .base import Task


@dataclass(frozen=True)
class NetworkCalls:
    """The arguments of all calls that a task makes of a network on some batches.

    Attributes:
        task: What calls it.
        batches: The batches' inputs.
        counts: How many calls each batch makes.
        arguments: Of every call, in order: the values that the network's graph takes.
        module: The network.
    """

    task: Task
    batches: tuple[Any, ...]
    counts: tuple[int, ...]
    arguments: tuple[tuple[Any, ...], ...]
    module: fx.GraphModule | None = None

    @classmethod
    def record(
        cls, task: Task, module: fx.GraphModule, batches: Iterable[Batch] | NetworkCalls
    ) -> NetworkCalls:
        """Find out the calls of a traced network; what was recorded is returned as it is."""
        if isinstance(batches, NetworkCalls):
            return batches
        inputs = []
        for number, batch in enumerate(batches, 1):
            require_samples(batch, f"task {task.name!r}: calibration batch {number}")
            inputs.append(batch[0])
        calls = [task.list_calls(module, x) for x in inputs]
        flat = tuple(flatten_arguments(module, *call) for found in calls for call in found)
        return cls(task, tuple(inputs), tuple(map(len, calls)), flat, module)

    @torch.no_grad()
    def complete(self, results: Iterable[Any]) -> Iterator[Any]:
        """Yield the task's outputs, batch by batch, if the calls return these results."""
        waiting, arguments = iter(results), iter(self.arguments)
        for inputs, count in zip(self.batches, self.counts, strict=True):
            yield self.task.complete(
                list(islice(waiting, count)), inputs, self.module, list(islice(arguments, count))
            )
