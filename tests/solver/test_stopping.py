"""A time limit and an interrupt hand back the incumbent with a true gap."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import types

import pytest

import solver
from solver import Status, highs
from solver.search import Search

from .problems import concatenation_problem, grid_problem, roofline_problem


@pytest.fixture(autouse=True)
def default_sigint():
    """SIGINT as in a terminal: a shell that starts tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def make_hard() -> solver.Problem:
    """Takes the mixed-integer program far longer than the tests have."""
    return grid_problem(side=9, options=6, seed=1)


def check_solution(problem: solver.Problem, solution: solver.Solution, optimum: float) -> None:
    assert solution.choice is not None
    value, cost = problem.evaluate(solution.choice)
    assert value == solution.value
    assert all(cost[r] <= b * (1 + 1e-9) for r, b in problem.budgets.items())
    assert solution.value <= optimum * (1 + 1e-12) and optimum <= solution.bound * (1 + 1e-12)


def test_a_time_limit_returns_an_incumbent_with_a_true_gap(monkeypatch):
    problem = roofline_problem("deit_tiny", 16, 0.15)
    optimum = solver.solve(problem).value

    def exhaust(progress: solver.SolveProgress) -> None:
        # The clock is turned forward once there is something to hand back: no test of speed.
        if progress.value > -float("inf"):
            clock.append(1e9)

    clock: list[float] = []
    real = time.perf_counter
    forward = types.SimpleNamespace(perf_counter=lambda: real() + sum(clock))
    monkeypatch.setattr("solver.search.time", forward)
    solution = solver.solve(problem, progress=exhaust)
    assert solution.status == Status.TIME_LIMIT
    assert 0 < solution.gap < 1
    check_solution(problem, solution, optimum)


def test_a_time_limit_that_is_over_at_once_is_no_error():
    solution = solver.solve(concatenation_problem(8, 32), time_limit_s=1e-9)
    assert solution.status == Status.TIME_LIMIT


def test_sigint_returns_the_incumbent():
    problem = roofline_problem("deit_tiny", 16, 0.15)
    optimum = solver.solve(problem).value

    def interrupt(progress: solver.SolveProgress) -> None:
        if progress.value > -float("inf"):
            signal.raise_signal(signal.SIGINT)

    solution = solver.solve(problem, progress=interrupt)
    assert solution.status == Status.INTERRUPTED
    check_solution(problem, solution, optimum)


@pytest.mark.parametrize("method", ["milp", "auto"])
def test_an_interrupt_that_is_swallowed_counts(method):
    """As Python does with one that reaches it in a destructor."""
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(progress: solver.SolveProgress) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    solution = solver.solve(make_hard(), method, progress=interrupt, memory_limit_mb=1.0)
    assert solution.status == Status.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("method", ["milp", "auto"])
def test_sigint_inside_highs_returns(method):
    problem = make_hard()

    def interrupt(progress: solver.SolveProgress) -> None:
        if progress.stage.endswith("HiGHS"):
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    solution = solver.solve(problem, method, progress=interrupt, memory_limit_mb=1.0)
    assert solution.status == Status.INTERRUPTED
    assert solution.bound < float("inf")
    if solution.choice is not None:
        assert problem.evaluate(solution.choice)[0] == solution.value <= solution.bound


def test_a_time_limit_inside_highs_bounds():
    problem = make_hard()
    solution = solver.solve(problem, time_limit_s=4.0, memory_limit_mb=1.0)
    assert solution.status == Status.TIME_LIMIT
    assert solution.bound < float("inf")
    if solution.choice is not None:
        assert solution.gap > 0


def test_progress_is_reported():
    seen: list[solver.SolveProgress] = []
    solver.solve(roofline_problem("deit_tiny", 16, 0.25), progress=seen.append)
    assert solver.Progress is solver.SolveProgress  # the former name
    assert seen and {"relaxation", "enumeration"} <= {p.stage for p in seen}
    assert all(a.bound >= b.bound and a.value <= b.value for a, b in zip(seen, seen[1:]))


def test_the_end_of_a_process_waits_for_highs(monkeypatch):
    """HiGHS aborts a process that ends while it is at work."""
    begun, ended = threading.Event(), threading.Event()

    def linger(run, program, presolve):
        begun.set()
        ended.wait()
        return "kInterrupt"

    monkeypatch.setattr(highs.HighsRun, "_solve", linger)
    problem = make_hard()
    search = Search.start(problem, problem.budgets, 0.0, 60.0, 400.0)
    run = highs.HighsRun(search, search.model, None)
    assert begun.wait(60.0)
    run.stop(0.0)
    assert not run.wait(0.0) and run in highs._RUNNING
    threading.Timer(1.5, ended.set).start()
    highs._stop_all()
    assert run.wait(0.0) and not highs._RUNNING
