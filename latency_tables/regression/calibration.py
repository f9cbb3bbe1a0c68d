"""Network-level calibration: how a network's latency follows from the sum of its cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

_LEAST_PROBES = 10
_REACH = 0.15  # of a check, in the logarithm of the sum
_LEAST_WEIGHT = 0.05  # of checks nearby for them to count


@dataclass(frozen=True)
class Calibration:
    """``total = factor * sum``, and near a checked structure what was measured there.

    The total follows the sum, so a budget for one is a budget for the other. Checks are (sum,
    measured) milliseconds of structures that were measured to verify a prediction, in that order:
    the later, the more they count.
    """

    factor: float = 1.0
    checks: tuple[tuple[float, float], ...] = ()

    def total_ms(self, sum_ms: float) -> float:
        """Compute the network's latency from the sum of its cells and the table's overhead."""
        plain = self.factor * sum_ms
        if not self.checks or sum_ms <= 0:
            return plain
        sums = np.array([own for own, _ in self.checks])
        off = np.log([measured / (self.factor * own) for own, measured in self.checks])
        weight = np.exp(-0.5 * (np.log(sums / sum_ms) / _REACH) ** 2) * 2.0 ** np.arange(len(sums))
        weight /= 2.0 ** (len(sums) - 1)
        return plain * float(np.exp(np.dot(weight, off) / (weight.sum() + _LEAST_WEIGHT)))

    def sum_ms(self, total_ms: float) -> float:
        """Compute the sum that makes this latency: the inverse of ``total_ms``."""
        plain = max(total_ms, 0.0) / self.factor
        if not self.checks or plain <= 0:
            return plain
        worst = max(abs(np.log(measured / (self.factor * own))) for own, measured in self.checks)
        reach = float(np.exp(worst))

        def exceed(sum_ms: float) -> float:
            return self.total_ms(sum_ms) - total_ms

        low, high = plain / reach, plain * reach
        if exceed(low) >= 0 or exceed(high) <= 0:
            return plain
        return float(brentq(exceed, low, high, xtol=1e-9 * plain))


IDENTITY = Calibration()


def fit_calibration(pairs: Sequence[tuple[float, float]]) -> Calibration:
    """Fit a factor to (sum, measured) milliseconds of structures unseen by the sums.

    The median ratio; where there are few, the identity.
    """
    if len(pairs) < _LEAST_PROBES:
        return IDENTITY
    return Calibration(float(np.median([measured / own for own, measured in pairs])))
