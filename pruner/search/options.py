"""How a structure is searched for."""

from __future__ import annotations

from dataclasses import dataclass

from ..utils import require, wrong_value


@dataclass(frozen=True)
class SolveConfig:
    """How the structure is chosen.

    trials is how many structures at the budget are tuned, for trial_steps batches, and run before
    one is chosen (see `pruner.tried`; 0: none, the scores are taken at their word). margin is the
    share of the budget that is kept free (``auto``: from the table's own error); check measures the
    chosen structure on the device, and solves again with what that tells, at most attempts times.
    """

    trials: int = 0
    trial_steps: int = 64
    margin: float | str = 0.0
    check: bool = True
    attempts: int = 4
    time_limit_s: float = 60.0

    def __post_init__(self) -> None:
        margin = self.margin
        if isinstance(margin, str) and margin != "auto":
            try:
                margin = float(margin)
            except ValueError:
                raise wrong_value("solve.margin", "a number or auto", margin) from None
            object.__setattr__(self, "margin", margin)
        if not isinstance(margin, str):
            require(0 <= margin < 1, "solve.margin", "a share from 0 to 1, or auto", margin)
        require(self.trials >= 0, "solve.trials", "0 or more", self.trials)
        require(self.trial_steps >= 0, "solve.trial_steps", "0 or more", self.trial_steps)
        require(self.attempts >= 1, "solve.attempts", "at least 1", self.attempts)
        require(self.time_limit_s > 0, "solve.time_limit_s", "above 0", self.time_limit_s)
