"""FileModule: a file as a module, so that a Task can judge it as it judges the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunerError
from .base import Run
from .plain_network import PlainNetwork


class FileModule(nn.Module):
    """A network that a runtime runs from its file, called as the network is called.

    Where the file insists on a batch, others are taken in parts of that size; the last one is
    filled up with copies of its last sample, whose answers are left out.
    """

    def __init__(self, run: Run, network: PlainNetwork) -> None:
        """Take what `Format.open` returned, and the network as it was written."""
        super().__init__()
        self.run, self.network = run, network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the file's answers, nested as the network's."""
        inputs = self.network.take(args, kwargs)
        count = next((len(x) for x in inputs if x.dim()), 1)
        if self.network.free_batch or count == self.network.batch:
            return self.network.nest(self.run(inputs))
        return self.network.nest(self._run_in_parts(inputs, count))

    def _run_in_parts(self, inputs: tuple[Tensor, ...], count: int) -> list[Tensor]:
        size, parts = self.network.batch, list[list[Tensor]]()
        for start in range(0, count, size):
            rows = torch.arange(start, start + size).clamp(max=count - 1)
            part = tuple(x[rows] if x.dim() and len(x) == count else x for x in inputs)
            answers = self.run(part)
            if any(not x.dim() or len(x) != size for x in answers):
                raise PrunerError(
                    f"the file takes a batch of {size} only, and its answers do not belong to the "
                    f"samples one by one: a batch of {count} cannot be judged"
                )
            parts.append(answers)
        return [torch.cat(each)[:count] for each in zip(*parts)]
