"""Reports of a tuning run: TuneEvent while it goes on, History when it is over."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

_REPORT_EVERY_S = 0.25


@dataclass(frozen=True)
class EpochResult:
    """One epoch, from 1: mean training loss, training accuracy (0..1), last learning rate.

    test_accuracy (0..1) and test_loss (nats) where the epoch was evaluated. seconds count the
    epoch's training and evaluation, over interruptions.
    """

    epoch: int
    loss: float
    accuracy: float
    lr: float
    seconds: float
    test_accuracy: float | None = None
    test_loss: float | None = None


@dataclass(frozen=True)
class History:
    """A whole run: its epochs, optimizer steps and seconds, interruptions left out.

    resumed_at is the step that this call continued from, None for a fresh start.
    """

    epochs: tuple[EpochResult, ...]
    steps: int
    seconds: float
    resumed_at: int | None = None

    @property
    def accuracy(self) -> float | None:
        """Test accuracy at the end, where it was evaluated."""
        return self.epochs[-1].test_accuracy if self.epochs else None


@dataclass(frozen=True)
class TuneEvent:
    """Progress of `finetune`, given to its callback several times a second at most.

    Attributes:
        kind: ``"resume"`` (first, where a checkpoint was found), ``"recalibrate"``, ``"step"``,
            ``"evaluate"`` (test batches are running) or ``"epoch"`` (one is over).
        epoch: The present epoch, from 1, of so many epochs.
        step: Optimizer steps done, of so many steps in all epochs.
        loss: Running mean of this epoch's training loss.
        accuracy: Running mean of this epoch's accuracy (0..1) on augmented training images.
        seconds: Time spent so far.
        eta_s: Estimated time to the end; None while there is nothing to estimate it from.
        test_accuracy: With ``"epoch"``: accuracy (0..1) on the test images, where evaluated.
    """

    kind: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    accuracy: float | None = None
    seconds: float = 0.0
    eta_s: float | None = None
    test_accuracy: float | None = None


class Reporter:
    """Keeps a run's time over interruptions, and calls the user's callback with `TuneEvent`."""

    def __init__(
        self, callback: Callable[[TuneEvent], None] | None, epochs: int, steps: int
    ) -> None:
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
        """Call the callback; sums are the epoch's images, correct ones, loss times images, [3]."""
        now = time.perf_counter()
        if self._callback is None or kind == "step" and now - self._reported_s < _REPORT_EVERY_S:
            return
        self._reported_s = now
        images, correct, loss = sums.tolist()
        last = results[-1] if kind == "epoch" else None
        fresh = step - (self.resumed_at or 0)
        step_s = (self.seconds - self._earlier_s) / fresh if fresh else None
        self._callback(
            TuneEvent(
                kind, len(results) if last else min(len(results) + 1, self._epochs),
                self._epochs, step, self._steps,
                last.loss if last else loss / images if images else None,
                last.accuracy if last else correct / images if images else None,
                self.seconds,
                None if step_s is None else step_s * (self._steps - step),
                last.test_accuracy if last else None,
            )
        )  # fmt: skip
