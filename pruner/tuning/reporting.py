"""Reports of a tuning run: TuneEvent while it goes on, History when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

_REPORT_EVERY_S = 0.25


@dataclass(frozen=True)
class EpochResult:
    """One epoch of a run.

    Attributes:
        epoch: Its number, from 1.
        loss: Mean training loss.
        accuracy: Share of the augmented training images classified correctly (0..1).
        lr: Learning rate of its last step.
        seconds: Time of training and evaluation, over interruptions.
        test_accuracy: Share of the test images (0..1), where the epoch was evaluated.
        test_loss: Mean cross-entropy of the test images in nats, where evaluated.
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
    """A whole run.

    Attributes:
        epochs: Results, epoch by epoch.
        steps: Optimizer steps.
        seconds: Time of training and evaluation; interruptions are left out.
        resumed_at: The step that this call continued from, None for a fresh start.
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
        epoch: The present epoch, from 1.
        epochs: How many there are.
        step: Optimizer steps done.
        steps: Optimizer steps of all epochs.
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

    @property
    def due(self) -> bool:
        """Whether the last report is long enough ago for one of a step."""
        return time.perf_counter() - self._reported_s >= _REPORT_EVERY_S

    def resume(self, step: int, seconds: float) -> None:
        """Continue from a step before which earlier calls took that many seconds."""
        self.resumed_at, self._earlier_s = step, seconds

    def report(self, kind: str, step: int, sums: Tensor, results: Sequence[EpochResult]) -> None:
        """Call the callback.

        Args:
            kind: See `TuneEvent`.
            step: Optimizer steps done.
            sums: Of this epoch: images, correct ones, loss times images; [3].
            results: The closed epochs.
        """
        self._reported_s = time.perf_counter()
        if self._callback is None:
            return
        images, correct, loss = sums.tolist()
        last = results[-1] if kind == "epoch" else None
        fresh = step - (self.resumed_at or 0)
        step_s = (self.seconds - self._earlier_s) / fresh if fresh else None
        self._callback(
            TuneEvent(
                kind,
                len(results) if last else min(len(results) + 1, self._epochs),
                self._epochs,
                step,
                self._steps,
                last.loss if last else loss / images if images else None,
                last.accuracy if last else correct / images if images else None,
                self.seconds,
                None if step_s is None else step_s * (self._steps - step),
                last.test_accuracy if last else None,
            )
        )
