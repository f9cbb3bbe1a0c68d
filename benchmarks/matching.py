"""Finds, for any way to prune, the structure that measures closest to a share of the latency.

A bisection by the table (of methods whose latency need not grow with their knob: the best of
fifty), then up to six corrections by what the device says, dense and pruned timed in turn.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import pruner
import solver
from latency_tables import Engine
from pruner import Plan, PrunerError

from . import record
from .peers import Method, Setting
from .structures import ROUNDS, time_in_turn

ABOVE, BELOW = 0.005, 0.02
"""A structure is taken when it measures this close to the latency asked for, relative to dense."""
CORRECTIONS = 6
BISECTIONS = 9
SCANNED = 50


class Matcher:
    """A method on one device, and what was found out about its knob.

    Attributes:
        method: Picks structures.
        setting: The network, with its latency table.
        engine: Times them.
        rounds: Of a comparison.
    """

    def __init__(
        self, method: Method, setting: Setting, engine: Engine, rounds: int = ROUNDS
    ) -> None:
        """Take a method, the setting that it was made in, and what times it."""
        self.method, self.setting, self.engine, self.rounds = method, setting, engine, rounds
        self._scanned: list[tuple[float, Plan]] = []

    def match(self, share: float) -> dict[str, Any]:
        """Find the plan that measures closest to a share of the dense latency, below it if it can.

        Of structures that were tried, the best that measures below it.

        Returns:
            The plan as plain data, ``measured_ms``, ``spread_ms``, ``dense_ms`` of the same
            comparison, and ``tries``: the share of every structure that was timed.
        """
        aim, tries = share, list[dict[str, Any]]()

        def measure_ratio(plan: Plan) -> float:
            dense, pruned = time_in_turn(self.method.net, plan, self.engine, self.rounds)
            tries.append({
                "plan": plan, "measured_ms": pruned.median_ms, "spread_ms": pruned.spread_ms,
                "dense_ms": dense.median_ms, "tries": pruned.median_ms / dense.median_ms,
            })  # fmt: skip
            return float(tries[-1]["tries"])

        def describe(taken: dict[str, Any]) -> dict[str, Any]:
            plan = json.loads(taken["plan"].to_json())
            return {**taken, "plan": plan, "tries": [t["tries"] for t in tries]}

        for plan in self.method.find_candidates(share):
            if measure_ratio(plan) <= share * (1 + ABOVE):
                return describe(tries[-1])
        seen: dict[float, float] = {}  # of an aim: the share that its structure measures
        for _ in range(CORRECTIONS + 1):
            best = self.bisect(aim) if self.method.monotone else self.scan(aim)
            if best is None:
                raise PrunerError(f"nothing within {aim:.1%} of the dense latency")
            ratio = measure_ratio(best)
            if share * (1 - BELOW) <= ratio <= share * (1 + ABOVE):
                break
            seen[aim] = ratio
            aim = correct_aim(seen, share)
        fitting = [t for t in tries if t["tries"] <= share * (1 + ABOVE)] or tries
        return describe(min(fitting, key=lambda t: abs(t["tries"] - share)))

    def predict(self, plan: Plan) -> float:
        """Predict the milliseconds of a plan."""
        sizes, dropped = plan.sizes(), plan.dropped_blocks()
        return pruner.predict(self.method.net, self.setting.table, sizes, dropped)

    def bisect(self, share: float) -> Plan | None:
        """Find, by the table alone, the largest knob whose plan is predicted within the share."""
        limit = share * self.setting.table.uncut_ms(self.setting.net)
        low, high, best = 0.02, 1.0, None
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            try:
                plan = self.method.plan(middle)
            except solver.SolverError:  # nothing within so little: more is needed
                low = middle
                continue
            if self.predict(plan) <= limit:
                low, best = middle, plan
            else:
                high = middle
        return best

    def scan(self, share: float) -> Plan | None:
        """Find, by the table alone, of many knobs' plans the slowest that is within the share."""
        if not self._scanned:
            plans = [self.method.plan(float(knob)) for knob in np.linspace(0.02, 1.0, SCANNED)]
            self._scanned = [(self.predict(plan), plan) for plan in plans]
        limit = share * self.setting.table.uncut_ms(self.setting.net)
        fitting = [found for found in self._scanned if found[0] <= limit]
        return max(fitting, key=lambda found: found[0])[1] if fitting else None


def correct_aim(seen: Mapping[float, float], share: float) -> float:
    """Return what to ask of the table, after what structures measure that were asked for before.

    Between the nearest from below and from above, in proportion; while all lie on one side, the
    last one is scaled by its error.
    """
    low = max((aim for aim, ratio in seen.items() if ratio <= share), default=0.0)
    high = min((aim for aim, ratio in seen.items() if ratio > share and aim > low), default=0.0)
    if not (low and high):
        aim, ratio = list(seen.items())[-1]
        return aim * share / ratio
    part = (share - seen[low]) / (seen[high] - seen[low])
    return low + (high - low) * min(max(part, 0.25), 0.75)


def read_plans(results: Path, model: str) -> list[dict[str, Any]]:
    """Read what was chosen for a network, on whatever devices: one JSON object a line."""
    file = results / "plans" / f"{model}.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_plans(results: Path, model: str, plans: list[dict[str, Any]]) -> None:
    """Replace them, whole or not at all."""
    file = results / "plans" / f"{model}.jsonl"
    record.write_result(file, "".join(f"{json.dumps(plan)}\n" for plan in plans))
