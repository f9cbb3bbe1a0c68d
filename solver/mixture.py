"""The best mixture of choices that keeps the budgets: the linear program of the dual's cuts.

Maximizes ``sum_j w_j value_j`` over weights ``w >= 0`` of sum one, under ``sum_j w_j cost_j <=
room``; its prices are the next multipliers to look at, its weights say between which choices the
relaxation wavers (Dantzig & Wolfe, *Decomposition principle for linear programs*, Operations
Research 8, 1960). There are as many rows as budgets, so that a revised simplex method of a few
lines is faster than any general one; no proof rests on its numbers.
"""

import numpy as np

#: Pivots of one solve, at most: ties could make it turn in a circle.
PIVOTS = 100
#: Reduced values and pivots below this are rounding.
TINY = 1e-12


class ChoiceMixture:
    """Choices, and the best weights for them.

    Args:
        room: What mixed costs [R] may be.
    """

    def __init__(self, room: np.ndarray) -> None:
        count = len(room)
        self._rows = np.append(room, 1.0)
        # A budget may be exceeded at a price, so that any first choice is a basis.
        self._box = np.full(count, 4.0)
        slack = np.eye(count + 1)[:count]
        self._columns = [*slack, *-slack]
        self._gains = [0.0] * count + [-b for b in self._box]
        self._basis: np.ndarray | None = None
        self.prices = np.zeros(count)
        self.value = np.inf
        self.weights = np.zeros(0)

    def add(self, value: float, cost: np.ndarray) -> None:
        """Add a choice's value and costs [R]; weights are in the order of calls."""
        self._columns.append(np.append(cost, 1.0))
        self._gains.append(value)
        if self._basis is None:
            room = self._rows[:-1]
            own = np.arange(len(room)) + np.where(cost > room, len(room), 0)
            self._basis = np.append(own, 2 * len(room))

    def solve(self) -> None:
        """Find weights [n], prices [R] and the mixture's value; at least one choice was added."""
        assert self._basis is not None
        columns, gains = np.array(self._columns), np.array(self._gains)
        for _ in range(PIVOTS):
            try:
                inverse = np.linalg.inv(columns[self._basis].T)
            except np.linalg.LinAlgError:
                break
            duals, amounts = gains[self._basis] @ inverse, inverse @ self._rows
            weights = np.zeros(len(gains))
            weights[self._basis] = amounts
            count = len(self.prices)
            self.prices, self.value = np.maximum(duals[:count], 0.0), float(duals @ self._rows)
            self.weights = np.maximum(weights[2 * count :], 0.0)
            reduced = gains - columns @ duals
            enters = int(reduced.argmax())
            step = inverse @ columns[enters]
            rises = step > TINY
            if reduced[enters] <= TINY or not rises.any():
                break
            ratio = np.full(len(step), np.inf)
            ratio[rises] = amounts[rises] / step[rises]
            self._basis[int(ratio.argmin())] = enters

    def widen(self) -> None:
        """Let the prices that have met their limit grow further."""
        met = self.prices >= self._box * 0.999
        self._box[met] *= 8.0
        count = len(self._box)
        self._gains[count : 2 * count] = (-self._box).tolist()
