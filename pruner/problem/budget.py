"""A latency budget as a user gives it: ``50%`` of dense, ``12ms``, ``80fps``, or milliseconds."""

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

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf:
            raise _unreadable(str(self))

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``50%``, ``12ms`` or ``80fps``; raises PrunerError on anything else."""
        match = _FORM.fullmatch(str(text))
        if match is None:
            raise _unreadable(text)
        return cls(float(match.group(1)), match.group(2))

    @classmethod
    def coerce(cls, budget: Budget | str | float) -> Budget:
        """Return a Budget as it is, read a text, or take a number as milliseconds."""
        if isinstance(budget, Budget):
            return budget
        return cls(budget, "ms") if isinstance(budget, int | float) else cls.parse(budget)

    def to_ms(self, dense_ms: float, batch: int) -> float:
        """Return the budget in milliseconds a batch of so many images, as dense_ms is given.

        Raises:
            PrunerError: The budget is above dense: there is nothing to prune for.
        """
        limit = self.limit_ms(dense_ms, batch)
        if limit > dense_ms * (1 + 1e-9):
            raise PrunerError(
                f"budget {self} is {limit:.4g} ms, above the dense network's {dense_ms:.4g} ms: "
                "it is met without pruning"
            )
        return limit

    def limit_ms(self, dense_ms: float, batch: int) -> float:
        """Return the same, whether it is above dense or not."""
        if self.unit == "%":
            return dense_ms * self.amount / 100
        return self.amount if self.unit == "ms" else 1000 * batch / self.amount

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    @property
    def slug(self) -> str:
        """A folder name: ``70``, ``12ms``, ``80fps``."""
        return f"{self.amount:g}{'' if self.unit == '%' else self.unit}"


def _unreadable(text: str) -> PrunerError:
    return PrunerError(f"cannot read budget {str(text)!r}: write 50% (of dense), 12ms or 80fps")
