"""How a network's latency follows from the sum of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

_LEAST_PROBES = 10
_STEEPEST = 0.2
_REWEIGHTINGS = 3
_REACH = 0.15  # of a check, in the logarithm of the sum
_LEAST_SAY = 0.05  # how near a check must be for its word to count


@dataclass(frozen=True)
class Context:
    """``total = factor * reference_ms * (sum / reference_ms) ** (1 + slope)``, and near a checked
    structure what was measured there.

    The same layer is slower in a larger network, which leaves less of the caches to it: of
    MobileNetV2's first convolution, whose input is the same in all of them, probes differ by a
    third. No sum of layers can tell that, but it follows the total; and as the total follows the
    sum, a budget for one is a budget for the other.

    reference_ms
        The sum of the uncut network's cells, by the table.
    checks
        (sum, measured) milliseconds of structures that were measured to verify a prediction, in
        that order: the later, the more they count.
    """

    factor: float = 1.0
    slope: float = 0.0
    reference_ms: float = 1.0
    checks: tuple[tuple[float, float], ...] = ()

    def total_ms(self, sum_ms: float) -> float:
        """The network's latency, from the sum of its cells and the table's overhead."""
        plain = self._plain_ms(sum_ms)
        if not self.checks or sum_ms <= 0:
            return plain
        sums = np.array([own for own, _ in self.checks])
        off = np.log([measured / self._plain_ms(own) for own, measured in self.checks])
        say = np.exp(-0.5 * (np.log(sums / sum_ms) / _REACH) ** 2) * 2.0 ** np.arange(len(sums))
        say /= 2.0 ** (len(sums) - 1)
        return plain * float(np.exp(np.dot(say, off) / (say.sum() + _LEAST_SAY)))

    def sum_ms(self, total_ms: float) -> float:
        """The sum of cells and overhead that makes this latency: the inverse of ``total_ms``."""
        relative = max(total_ms, 0.0) / (self.factor * self.reference_ms)
        plain = self.reference_ms * float(relative ** (1 / (1 + self.slope)))
        if not self.checks or plain <= 0:
            return plain
        worst = max(abs(np.log(measured / self._plain_ms(own))) for own, measured in self.checks)
        reach = float(np.exp(2 * worst))  # twice: the exponent 1 + slope is at least a half

        def over(sum_ms: float) -> float:
            return self.total_ms(sum_ms) - total_ms

        low, high = plain / reach, plain * reach
        if over(low) >= 0 or over(high) <= 0:
            return plain
        return float(brentq(over, low, high, xtol=1e-9 * plain))

    def _plain_ms(self, sum_ms: float) -> float:
        relative = max(sum_ms, 0.0) / self.reference_ms
        return self.factor * self.reference_ms * relative ** (1 + self.slope)


NO_CONTEXT = Context()


def fit_context(pairs: Sequence[tuple[float, float]], reference_ms: float) -> Context:
    """From (sum, measured) milliseconds of structures that the sums were not fitted to.

    Robust least squares between the logarithms; where there are few, the identity.
    """
    if len(pairs) < _LEAST_PROBES or reference_ms <= 0:
        return NO_CONTEXT
    sums, measured = np.array(pairs).T
    x, y = np.log(sums / reference_ms), np.log(measured / sums)
    matrix = np.stack([np.ones_like(x), x], axis=1)
    # A slope that a few probes only suggest is held back.
    ridge = np.diag([1e-3, 0.05])
    weight = np.ones(len(x))
    solution = np.zeros(2)
    for _ in range(_REWEIGHTINGS):
        rows = matrix * weight[:, None]
        solution = np.linalg.solve(rows.T @ rows + ridge, rows.T @ (y * weight))
        residual = np.abs(y - matrix @ solution)
        spread = 1.4826 * float(np.median(residual))
        if spread == 0:
            break
        weight = np.sqrt(np.minimum(1.0, 2 * spread / np.maximum(residual, 1e-12)))
    offset, slope = float(solution[0]), float(np.clip(solution[1], -_STEEPEST, _STEEPEST))
    return Context(float(np.exp(offset)), slope, reference_ms)
