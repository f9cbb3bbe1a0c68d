"""The state of a running solve: incumbent, bound, time, and how it is reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .interrupts import record_interrupts
from .model import Model, build
from .problem import Problem
from .solution import Status, compute_gap

#: Two scaled values closer than this are the same: sums of floats of order one are no finer.
EPSILON = 1e-12


class OutOfTime(Exception):
    """The time limit has passed; the search holds what was found."""


class Settled(Exception):
    """A rival has ended the search; there is nothing left to do."""


class Rival(Protocol):
    """Another method that works on the same search beside this one."""

    def exchange(self, search: Search) -> None:
        """Hand what was found and proven to the search."""


@dataclass(frozen=True)
class SolveProgress:
    """One message of a solve to its ``progress`` callback.

    ``value`` is the incumbent's (-inf before the first), ``bound`` an upper bound (inf before the
    first), both in the problem's unit; ``stage`` names what the solver is doing.
    """

    stage: str
    seconds: float
    value: float
    bound: float


Progress = SolveProgress
"""The former name of :class:`SolveProgress`."""


@dataclass(eq=False)
class Search:
    """Incumbent and bound of one solve, in scaled units (see :class:`~solver.model.Units`).

    ``deadline`` is a time of ``perf_counter``; the tables of an elimination may hold
    ``entries_limit`` entries together. ``interrupted`` is filled by every SIGINT. A search that
    leaves budgets out, or of a part of what is open, offers its choices to the ``whole`` one; where
    it ``restricts`` that one, its bound is none of the whole's.
    """

    problem: Problem
    budgets: Mapping[str, float]
    model: Model
    gap: float
    deadline: float
    started: float
    entries_limit: int
    progress: Callable[[SolveProgress], None] | None = None
    value: float = -math.inf
    choice: np.ndarray | None = None
    bound: float = math.inf
    multipliers: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    interrupted: Sequence[int] = ()
    rival: Rival | None = None
    whole: Search | None = None
    restricts: bool = False

    @classmethod
    def start(
        cls,
        problem: Problem,
        budgets: Mapping[str, float],
        gap: float,
        time_limit_s: float,
        memory_limit_mb: float,
        progress: Callable[[SolveProgress], None] | None = None,
    ) -> Search:
        """Build the model of a problem under budgets that are checked already."""
        now, entries = time.perf_counter(), int(memory_limit_mb * 1e6 / 8)
        model = build(problem, budgets)
        return cls(problem, budgets, model, gap, now + time_limit_s, now, entries, progress)

    def check(self) -> None:
        """Raise ``OutOfTime`` after the deadline, ``KeyboardInterrupt`` after a SIGINT.

        Takes what a rival has found, and raises ``Settled`` where that ends the search.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        if self.rival is not None:
            self.rival.exchange(self)
            if self.done:
                raise Settled
        if time.perf_counter() > self.deadline:
            raise OutOfTime

    @property
    def remaining(self) -> float:
        """Seconds left until the deadline."""
        return self.deadline - time.perf_counter()

    def offer(self, model: Model, choice: Sequence[int]) -> bool:
        """Take a choice as the incumbent where it is feasible and better; return whether it was.

        ``model`` is any restriction of the search's model, ``choice`` has an option for each of its
        free variables; where copies of a split variable disagree, the first one's is taken.
        """
        if model.split_from is not None:
            first: dict[int, int] = {}
            for v, option in zip(model.origin, choice):
                first.setdefault(v, option)
            model, choice = model.split_from, [first[v] for v in range(len(first))]
        value, cost = model.evaluate(choice)
        if value == -math.inf:
            return False
        if self.whole is not None:
            self.whole.offer_complete(model.complete(choice))
        if not value > self.value or not model.is_feasible(cost):
            return False
        self.value = value
        self.choice = model.complete(choice)
        return True

    def offer_complete(self, options: np.ndarray) -> bool:
        """Offer the options of all the problem's variables, as in :meth:`offer`."""
        choice = self.model.project(options)
        return choice is not None and self.offer(self.model, choice)

    def run(self, work: Callable[..., object], *arguments: object) -> Status | None:
        """Call ``work`` to improve this search; return what cut it short, if anything."""
        try:
            with record_interrupts() as self.interrupted:
                work(self, *arguments)
        except OutOfTime:
            return Status.TIME_LIMIT
        except KeyboardInterrupt:
            return Status.INTERRUPTED
        return None

    def tighten(self, bound: float) -> None:
        """Lower the upper bound to ``bound`` where that is smaller."""
        self.bound = min(self.bound, bound)

    @property
    def closed(self) -> bool:
        """Whether incumbent and bound meet, up to rounding."""
        return self.bound - self.value <= 2 * EPSILON and self.choice is not None

    @property
    def done(self) -> bool:
        """Whether incumbent and bound meet, or are as close as was asked for."""
        if self.closed or self.bound == -math.inf:
            return True
        unscale = self.model.units.unscale_value
        return compute_gap(unscale(self.value), unscale(self.bound)) <= self.gap

    def report(self, stage: str) -> None:
        """Tell the progress callback where the search stands."""
        if self.whole is not None:
            if not self.restricts:
                self.whole.tighten(self.bound)
            self.whole.report(stage)
        elif self.progress is not None:
            seconds, unscale = time.perf_counter() - self.started, self.model.units.unscale_value
            self.progress(SolveProgress(stage, seconds, unscale(self.value), unscale(self.bound)))
