"""Scores out of training: the derivative of the loss by gates, averaged over its steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ..gates import Gates
from ..structure import Importance, Network

NAME = "gates"


class GateScores:
    """Running sums of the magnitude of the loss's derivatives by gates.

    The magnitude is taken batch by batch: at a minimum the mean derivative is zero.

    Attributes:
        count: Steps so far.
        sums: ``dims/NAME`` [size] and ``blocks/NAME`` [] -> float64.
    """

    def __init__(self, gates: Gates) -> None:
        """Begin with nothing."""
        self.gates, self.count, self.sums = gates, 0, dict[str, Tensor]()

    def add(self, scale: float) -> None:
        """Add the gradients of a step, which are multiplied by a scale, and clear them."""
        self.count += 1
        for kind, table in (("dims", self.gates.dims), ("blocks", self.gates.blocks)):
            for name, gate in table.items():
                if gate.grad is None:
                    continue
                value = gate.grad.detach().abs().cpu().double() / scale
                key = f"{kind}/{name}"
                self.sums[key] = self.sums[key] + value if key in self.sums else value
                gate.grad = None

    def restore(self, count: int, sums: Mapping[str, Tensor]) -> None:
        """Continue from such sums."""
        self.count, self.sums = count, dict(sums)

    def to_importance(self, net: Network) -> Importance:
        """Return the means as scores; what has no gate is worth nothing.

        A Dim loses by its loss curve the sum of what it gives up; a Block, by its own gate, what
        dropping it loses, whatever it is made of.
        """
        parts, curves = {}, {}
        for name, dim in net.dims.items():
            scores = self._average(f"dims/{name}", dim.size)
            parts[name] = {"": scores}
            lost = np.concatenate([np.cumsum(np.sort(scores))[::-1], [0.0]])
            curves[name] = lost[np.array(dim.options())]
        blocks = {name: float(self._average(f"blocks/{name}", 1)[0]) for name in net.blocks}
        return Importance(NAME, parts, blocks, curves)

    def _average(self, key: str, size: int) -> np.ndarray:
        if key not in self.sums:
            return np.zeros(size)
        return np.atleast_1d((self.sums[key] / self.count).numpy())
