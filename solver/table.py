"""One table of a discrete graphical model: values and costs over a few variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from .errors import ProblemError


@dataclass(frozen=True, eq=False)
class Table:
    """Value and costs of every joint choice of the variables in ``scope``.

    With ``n_1 ... n_k`` the numbers of options of the variables in ``scope``, ``value`` and every
    array in ``cost`` broadcast to ``[n_1, ..., n_k]`` by numpy's rules.

    Args:
        name: Names the table in messages and reports; unique within a problem.
        scope: The variables, one axis each, all different. An empty scope is a constant.
        value: What a choice brings, any unit; ``-inf`` marks an inadmissible entry; ``None`` is
            zero everywhere.
        cost: Resource to what a choice costs, finite everywhere (also where inadmissible).

    Raises:
        ProblemError: NaN, a value of ``+inf``, an infinite cost, a repeated variable, or an array
            that is not numeric.
    """

    name: str
    scope: tuple[str, ...]
    value: np.ndarray | None = None
    cost: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ProblemError(f"a table's name must be a string, not {self.name!r}")
        if isinstance(self.scope, str) or not all(isinstance(v, str) for v in self.scope):
            raise ProblemError(
                f"table {self.name!r}: scope must be a tuple of variable names, not {self.scope!r}"
            )
        scope = tuple(str(v) for v in self.scope)  # numpy's strings are not JSON's
        twice = sorted({v for v in scope if scope.count(v) > 1})
        if twice:
            raise ProblemError(f"table {self.name!r}: scope names {', '.join(twice)} twice")
        object.__setattr__(self, "scope", scope)
        if self.value is not None:
            value = _check_array(self.value, f"table {self.name!r}: value")
            if np.isposinf(value).any():
                raise ProblemError(
                    f"table {self.name!r}: value holds +inf; only -inf (inadmissible) is allowed"
                )
            object.__setattr__(self, "value", value)
        if not isinstance(self.cost, Mapping):
            raise ProblemError(f"table {self.name!r}: cost must map resources to arrays")
        cost = {}
        for resource, array in self.cost.items():
            if not isinstance(resource, str):
                raise ProblemError(f"table {self.name!r}: resource {resource!r} is not a string")
            cost[resource] = _check_array(array, f"table {self.name!r}: cost {resource!r}")
            if np.isinf(cost[resource]).any():
                raise ProblemError(
                    f"table {self.name!r}: cost {resource!r} is infinite somewhere; mark "
                    "inadmissible entries by a value of -inf"
                )
        object.__setattr__(self, "cost", MappingProxyType(cost))

    def __reduce__(self):
        return (Table, (self.name, self.scope, self.value, dict(self.cost)))


def _check_array(given: object, where: str) -> np.ndarray:
    """Return an array as a read-only view of float64; refuse NaN."""
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProblemError(f"{where} is not a numeric array: {error}") from None
    if np.isnan(array).any():
        position = tuple(int(i) for i in np.argwhere(np.isnan(array))[0])
        raise ProblemError(f"{where} holds NaN at {list(position)}")
    array = array.view()
    array.flags.writeable = False
    return array
