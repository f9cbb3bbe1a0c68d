"""Progress in plain lines."""

from __future__ import annotations

import io

from pruner.utils import progress
from pruner.utils.progress import ProgressDisplay


def test_what_is_left_is_told_by_the_present_pace(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with ProgressDisplay(stream).task("score") as advance:
        for step in range(1, 21):
            clock[0] += 2.0 if step <= 10 else 120.0  # the second half is of another kind
            advance(step, 20)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "score: 5 of 20, about 30 s left"
    assert lines[-1] == "score: 20 of 20"
    # Of four steps before it one was quick.
    assert "score: 15 of 20, about 10 min left" in lines
    assert len(lines) == 12


def test_nothing_is_said_twice_or_too_often(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with ProgressDisplay(stream).task("tune") as advance:
        for done in (0, 0, 1, 1, 1, 2):
            clock[0] += 11.0
            advance(done, None)
        clock[0] += 1.0
        advance(3, None)
    assert stream.getvalue().splitlines() == ["tune: 0", "tune: 1", "tune: 2"]
