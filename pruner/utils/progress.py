"""Progress with an estimate on a terminal, plain lines in a pipe."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_ESTIMATE_LINES = 4
Advance = Callable[..., None]
"""Called with done, total (0: unknown) and a short remark."""


class ProgressDisplay:
    """What a step does: bars that move on a terminal, a line now and then elsewhere.

    Everything goes to stderr, so that stdout holds results only.
    """

    def __init__(self, stream: TextIO | None = None, every_s: float = 10.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.every_s = every_s
        self._bars: Any = None

    def say(self, text: str) -> None:
        """Print one line that stays."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        """Yield ``advance(done, total, note="")``, to be called whenever something is done."""
        show = self._show_bar if self.stream.isatty() else self._print_lines
        with show(label) as advance:
            yield advance

    @contextmanager
    def _show_bar(self, label: str) -> Iterator[Advance]:
        from rich import progress as rich
        from rich.console import Console

        bars = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}"),
            console=Console(file=self.stream),
        )
        with bars:
            self._bars = bars
            task = bars.add_task(label, total=None, note="")

            def advance(done: float, total: float | None = None, note: str = "") -> None:
                bars.update(task, completed=done, total=total or None, note=note)

            try:
                yield advance
            finally:
                self._bars = None

    @contextmanager
    def _print_lines(self, label: str) -> Iterator[Advance]:
        # When the last lines were printed, and what was done: steps need not all be as long, so
        # the estimate is by the present speed.
        printed = deque([(time.monotonic(), 0.0)], maxlen=_ESTIMATE_LINES)

        def advance(done: float, total: float | None = None, note: str = "") -> None:
            now = time.monotonic()
            finished = total is not None and 0 < total <= done
            since, before = printed[0]
            if done == printed[-1][1] and len(printed) > 1:
                return
            if now - printed[-1][0] < self.every_s and not finished:
                return
            left = ""
            if total and before < done < total:
                left_s = (now - since) * (total - done) / (done - before)
                left = f", about {_format_span(left_s)} left"
            printed.append((now, done))
            share = f"{done:g} of {total:g}" if total else f"{done:g}"
            self.say(f"{label}: {share}{', ' + note if note else ''}{left}")

        yield advance


class SilentProgress(ProgressDisplay):
    """Progress that is not shown: for use from Python."""

    def say(self, text: str) -> None:
        """Print nothing."""

    @contextmanager
    def task(self, label: str) -> Iterator[Advance]:
        """Yield a function that does nothing."""
        yield lambda *values, **keywords: None


def _format_span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
