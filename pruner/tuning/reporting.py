"""Reports of a tuning run: TuneEvent while it goes on, History when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..tasks import MetricKind

_REPORT_EVERY_S = 0.25
_FORMER = {"accuracy": "value", "test_accuracy": "test_value"}


@dataclass(frozen=True)
class EpochResult:
    """One epoch, from 1: mean training loss, the metric in training, last learning rate.

    value is None where the metric is no mean over predictions. test_value and test_loss are there
    where the epoch was evaluated, and test_others: those of further metrics, by their keys. seconds
    count the epoch's training and evaluation, over interruptions.
    """

    epoch: int
    loss: float
    value: float | None
    lr: float
    seconds: float
    test_value: float | None = None
    test_loss: float | None = None
    test_others: Mapping[str, float] | None = None

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> EpochResult:
        """Read what a checkpoint holds, under the names of before too."""
        return cls(**{_FORMER.get(name, name): value for name, value in notes.items()})


@dataclass(frozen=True)
class History:
    """A whole run: its epochs, optimizer steps and seconds, interruptions left out.

    resumed_at is the step that this call continued from, None for a fresh start; metric says what
    the values mean.
    """

    epochs: tuple[EpochResult, ...]
    steps: int
    seconds: float
    resumed_at: int | None = None
    metric: MetricKind | None = None

    @property
    def value(self) -> float | None:
        """The metric on the test samples at the end, where it was evaluated."""
        return self.epochs[-1].test_value if self.epochs else None

    @property
    def others(self) -> Mapping[str, float]:
        """Further metrics on the test samples at the end, by their keys."""
        return (self.epochs[-1].test_others or {}) if self.epochs else {}

    @property
    def accuracy(self) -> float | None:
        """The former name of value."""
        return self.value


@dataclass(frozen=True)
class TuneEvent:
    """Progress of `finetune`, given to its callback several times a second at most.

    Attributes:
        kind: ``"resume"`` (first, where a checkpoint was found), ``"recalibrate"``, ``"step"``,
            ``"evaluate"`` (test batches are running) or ``"epoch"`` (one is over).
        epoch: The present epoch, from 1, of so many epochs.
        step: Optimizer steps done, of so many steps in all epochs.
        loss: Running mean of this epoch's training loss.
        value: Running mean of this epoch's metric on augmented training samples, where it is one.
        seconds: Time spent so far.
        eta_s: Estimated time to the end; None while there is nothing to estimate it from.
        test_value: With ``"epoch"``: the metric on the test samples, where evaluated.
        metric: What the values mean.
    """

    kind: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    value: float | None = None
    seconds: float = 0.0
    eta_s: float | None = None
    test_value: float | None = None
    metric: MetricKind | None = None

    @property
    def accuracy(self) -> float | None:
        """The former name of value."""
        return self.value

    @property
    def test_accuracy(self) -> float | None:
        """The former name of test_value."""
        return self.test_value


class Reporter:
    """Keeps a run's time over interruptions, and calls the user's callback with `TuneEvent`."""

    def __init__(
        self, callback: Callable[[TuneEvent], None] | None, epochs: int, steps: int,
        metric: MetricKind | None = None, trained: bool = True,
    ) -> None:  # fmt: skip
        """Take what is reported; trained says whether the metric is known of training batches."""
        self.metric, self._trained = metric, trained
        self._callback, self._epochs, self._steps = callback, epochs, steps
        self._began_s, self._earlier_s, self._reported_s = time.perf_counter(), 0.0, 0.0
        self.resumed_at: int | None = None

    @property
    def seconds(self) -> float:
        """Time that the run has taken, in earlier calls too."""
        return self._earlier_s + time.perf_counter() - self._began_s

    def resume(self, step: int, seconds: float) -> None:
        """Continue from a step before which earlier calls took that many seconds."""
        self.resumed_at, self._earlier_s = step, seconds

    def report(self, kind: str, step: int, sums: Tensor, results: Sequence[EpochResult]) -> None:
        """Call the callback; sums are the epoch's samples, their metric, their loss, [3]."""
        now = time.perf_counter()
        if self._callback is None or kind == "step" and now - self._reported_s < _REPORT_EVERY_S:
            return
        self._reported_s = now
        samples, figures, loss = sums.tolist()
        last = results[-1] if kind == "epoch" else None
        fresh = step - (self.resumed_at or 0)
        step_s = (self.seconds - self._earlier_s) / fresh if fresh else None
        self._callback(
            TuneEvent(
                kind, len(results) if last else min(len(results) + 1, self._epochs),
                self._epochs, step, self._steps,
                last.loss if last else loss / samples if samples else None,
                last.value if last else figures / samples if samples and self._trained else None,
                self.seconds,
                None if step_s is None else step_s * (self._steps - step),
                last.test_value if last else None,
                self.metric,
            )
        )  # fmt: skip
