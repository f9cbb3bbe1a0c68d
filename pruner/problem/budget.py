"""A latency budget as a user writes it: ``50%`` of dense, ``12ms``, or ``80fps``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import PrunerError

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(%|ms|fps)\s*")


@dataclass(frozen=True)
class Budget:
    """An amount and its unit: ``"%"`` of the dense latency, ``"ms"`` a batch, ``"fps"`` images."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``50%``, ``12ms`` or ``80fps``; raises PrunerError on anything else."""
        found = _FORM.fullmatch(str(text))
        amount = float(found.group(1)) if found else 0.0
        if not found or amount <= 0 or not math.isfinite(amount):
            raise PrunerError(
                f"cannot read budget {str(text)!r}: write 50% (of dense), 12ms or 80fps"
            )
        return cls(amount, found.group(2))

    def milliseconds(self, dense_ms: float, batch: int = 1) -> float:
        """The budget in milliseconds a batch, for a network that takes dense_ms uncut.

        Raises PrunerError where it is above dense: there is nothing to prune for.
        """
        if self.unit == "%":
            limit = dense_ms * self.amount / 100
        elif self.unit == "ms":
            limit = self.amount
        else:
            limit = 1000 * batch / self.amount
        if limit > dense_ms * (1 + 1e-9):
            raise PrunerError(
                f"budget {self} is {limit:.4g} ms, above the dense network's {dense_ms:.4g} ms: "
                "it is met without pruning"
            )
        return limit

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    @property
    def slug(self) -> str:
        """A folder name: ``70``, ``12ms``, ``80fps``."""
        return f"{self.amount:g}{'' if self.unit == '%' else self.unit}"
