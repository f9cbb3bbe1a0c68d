"""Progressive: the budget moves from dense to the target, and what does not fit shrinks to zero."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi, sin
from typing import Any

from torch import Tensor

from ..errors import PrunerError
from ..structure import Importance, Plan
from .base import Conclusion, Strategy, StrategySetting
from .gate_scores import GateScores


class Progressive(Strategy):
    """Unified and progressive pruning (UPop, arXiv 2301.13741), picked by the solver.

    The training is parted into so many intervals. Before interval t of T, from 0, the solver picks
    the best structure at the latency

        dense - s (dense - budget),  s = sqrt((1 - cos(pi (t + 1) / T)) / 2) = sin(pi (t + 1) / 2T)

    and gates of what it leaves out are set to 1 - s, all others to one. For the last interval s is
    1: the gated network is the cut one, and that is the structure that is measured.

    Scores are those of the criterion on the dense network; with ``by="gates"`` the derivatives of
    the loss by gates in the training so far (`GateScores`), as published, so that nothing is picked
    before the second interval.
    """

    name = "progressive"

    def __init__(
        self, asked: StrategySetting, steps: int = 600, picks: int = 20, by: str = "criterion"
    ) -> None:
        """Take the steps in all, the number of intervals, and what scores: criterion or gates.

        Raises:
            PrunerError: More intervals than steps, or fewer than two.
        """
        if not 2 <= picks <= steps:
            raise PrunerError(
                f"strategy progressive: expected 2 to {steps} picks, one a step at most, got "
                f"{picks}: give --progressive-picks and --progressive-steps that fit"
            )
        super().__init__(asked)
        self._steps, self.picks, self.by = steps, picks, by
        self._starts = {number * steps // picks: number for number in range(picks)}
        self._sums = GateScores(self.gates) if by == "gates" else None
        self._final: Plan | None = None
        self.gates.requires_grad_(self._sums is not None)

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return self._steps

    @property
    def choice_step(self) -> int:
        """The first step of the last interval."""
        return max(self._starts)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells its training from another."""
        settings = {"strategy.picks": self.picks, "strategy.by": self.by}
        return {**super().identity, **settings, "strategy.criterion": self.asked.scores.criterion}

    def before_step(self, step: int) -> None:
        """Pick and set the gates where an interval begins."""
        if step not in self._starts:
            return
        number = self._starts[step]
        share = sin(pi * (number + 1) / (2 * self.picks))
        if number == self.picks - 1:
            if self._final is None:
                raise PrunerError(
                    f"strategy progressive: no structure was settled for step {step}: stop there, "
                    "choose one by conclude, and settle it"
                )
            self.gates.set_plan(self._final)
            return
        scores = self._read_scores()
        if scores is None:
            return
        asked = self.asked
        target_ms = asked.dense_ms - share * (asked.dense_ms - asked.budget_ms)
        asked.say(f"  {share:.0%} of the way: {target_ms:.4g} ms, the rest at {1 - share:.2f}")
        self.gates.set_plan(asked.pick(asked.net, scores, target_ms), closed=1 - share)

    def after_backward(self, scale: float) -> None:
        """Add the gates' derivatives to the scores."""
        if self._sums is not None:
            self._sums.add(scale)

    def settle(self, plan: Plan) -> None:
        """Take the structure of the last interval."""
        self._final = plan

    def conclude(self) -> Conclusion:
        """Return the scores to choose the structure of the last interval by."""
        scores = self._read_scores()
        assert scores is not None
        return Conclusion(self.read_network(), scores)

    def capture(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the sums of the gates' derivatives."""
        if self._sums is None:
            return {}, {}
        return self._sums.sums, {"count": self._sums.count}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take the sums back."""
        if self._sums is not None:
            self._sums.restore(notes["count"], tensors)

    def _read_scores(self) -> Importance | None:
        """Return the scores to solve by; None while there are none."""
        if self._sums is None:
            return self.asked.scores
        return self._sums.to_importance(self.asked.net) if self._sums.count else None
