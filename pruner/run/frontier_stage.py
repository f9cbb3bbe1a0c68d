"""The verb frontier: the best structure at every budget, from a RUN's table and scores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from solver import SolveProgress

from ..errors import PrunerError
from ..problem import Budget
from ..search import (
    FrontierPoint,
    describe_progress,
    find_knee,
    list_drops,
    resolve_margin,
    spread_budgets,
    trace_frontier,
)
from ..structure import Network
from ..utils import ProgressDisplay, append_line, read_lines, require_single_process
from .console_summary import Outcome
from .constraints import load_constraints
from .context import Workspace, open_run
from .frontier_plot import draw_frontier
from .rotation_stage import rotate_network
from .run_folder import CHECKPOINTS, RunFolder
from .score_stage import load_importance

CSV, PLOT, STEP = "frontier.csv", "frontier.png", "frontier"
POINTS = 50
KNEE = "knee"
_MOST_ROWS = 20


def frontier(
    run: str | os.PathLike[str] | Workspace,
    points: int = POINTS,
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
) -> Outcome:
    """Solve for budgets from the least reachable to dense; frontier.csv and .png go into the RUN.

    The same command again continues after an interruption. Nothing is measured: latencies are the
    table's.
    """
    require_single_process("frontier")
    with open_run(run, changes, progress) as space:
        space.check_identity()
        table, scores, options = space.load_table(), load_importance(space), space.config.solve
        net, _ = rotate_network(space)
        constraints = load_constraints(space)
        key = space.keys.of_frontier(points)
        journal = _Journal(space.folder / CHECKPOINTS / f"frontier-{key[:16]}.jsonl")
        margin = resolve_margin(options, table)
        budgets = spread_budgets(net, table, scores, points, margin, constraints)
        known = journal.read()
        found: list[FrontierPoint] = []
        with space.progress.task("frontier") as advance:

            def show(message: SolveProgress) -> None:
                advance(len(found), len(budgets), describe_progress(message))

            for point in trace_frontier(
                net, table, scores, budgets, margin=margin, constraints=constraints,
                time_limit_s=options.time_limit_s, known=known, progress=show,
            ):  # fmt: skip
                journal.append(point)
                found.append(point)
                advance(len(found), len(budgets), f"{point.budget} gap {point.gap:.1g}")
        rows, knee = _tabulate(net, found), find_knee(found)

        def write(scratch: Path) -> None:
            rows.to_csv(scratch / CSV, index=False)
            title = f"{net.name}, importance by {scores.criterion}"
            draw_frontier(scratch / PLOT, found, knee, title, str(table.device))

        if space.folder.find_record(STEP, key) is None:
            space.folder.commit(STEP, key, write, {"knee": knee + 1})
        return _summarize(space.folder, rows, knee, table.uncut_ms(net))


def pick_budget(run: str | os.PathLike[str], pick: str) -> str:
    """Return the budget of a point of a RUN's frontier: ``knee``, or a number in frontier.csv.

    Raises:
        PrunerError: There is no frontier yet, or no such point.
    """
    folder = RunFolder(run)
    rows = read_frontier(folder)
    if rows is None:
        raise PrunerError(f"--pick: {folder.path} has no frontier: msprune frontier {folder.path}")
    number = str(folder.read_state()["steps"][STEP]["knee"]) if pick == KNEE else pick
    chosen = rows.loc[rows["point"].astype(str) == number, "budget"]
    if chosen.empty:
        raise PrunerError(f"--pick: expected {KNEE} or a point from 1 to {len(rows)}, got {pick!r}")
    return str(chosen.iloc[0])


def read_frontier(folder: RunFolder) -> pd.DataFrame | None:
    """Return the rows of a RUN's frontier.csv; None where there is none."""
    if STEP not in folder.read_state()["steps"]:
        return None
    return pd.read_csv(folder.verify(CSV), dtype={"budget": str})


class _Journal:
    """Points that were solved, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, FrontierPoint]:
        points = {}
        for content in read_lines(self.path):
            content["budget"] = Budget.parse(content["budget"])
            content["dropped"] = tuple(content["dropped"])
            point = FrontierPoint(**content)
            points[str(point.budget)] = point
        return points

    def append(self, point: FrontierPoint) -> None:
        append_line(self.path, asdict(point) | {"budget": str(point.budget)})


def _tabulate(net: Network, points: Sequence[FrontierPoint]) -> pd.DataFrame:
    """Lay out frontier.csv: a row a budget, from the smallest up."""
    rows = []
    for i, point in enumerate(points):
        drops = list_drops(net, points[i + 1], point) if i + 1 < len(points) else []
        rows.append(
            {
                "point": i + 1,
                "budget": str(point.budget),
                "budget_ms": point.budget_ms,
                "predicted_ms": point.predicted_ms,
                "value": point.value,
                "bound": point.bound,
                "gap": point.gap,
                "status": point.status,
                "lost": point.lost,
                "price_per_ms": point.price_per_ms,
                "macs": point.macs,
                "parameters": point.parameters,
                "blocks": len(net.blocks) - len(point.dropped),
                "drops": "; ".join(drops),
            }
        )
    return pd.DataFrame(rows)


def _summarize(folder: RunFolder, rows: pd.DataFrame, knee: int, dense_ms: float) -> Outcome:
    step = -(-len(rows) // _MOST_ROWS)
    shown = rows[(rows.index % step == 0) | (rows.index == knee) | (rows.index == len(rows) - 1)]
    columns = ("point", "budget", "budget_ms", "predicted_ms", "lost", "gap", "price_per_ms",
               "blocks", "drops")  # fmt: skip
    table = shown.loc[:, list(columns)].copy()
    for name in ("budget_ms", "predicted_ms", "lost", "gap", "price_per_ms"):
        table[name] = table[name].map(lambda value: f"{value:.4g}")
    table["drops"] = table["drops"].map(lambda text: text if len(text) < 60 else f"{text[:57]}...")
    best, unproven = rows.iloc[knee], int((rows["gap"] > 0).sum())
    proven = "all proven" if not unproven else f"{unproven} not proven (see gap)"
    lines = [
        f"{len(rows)} budgets of {dense_ms:.4g} ms dense, {proven}",
        table.to_string(index=False),
        f"knee: point {knee + 1}, {best['budget']} = {best['budget_ms']:.4g} ms; a millisecond is "
        f"worth {best['price_per_ms']:.4g} there",
        f"take one: msprune solve {folder.path} --pick knee (or a point's number)",
        f"table: {folder / CSV}, plot: {folder / PLOT}",
    ]
    return Outcome("\n".join(lines), {"knee": knee + 1, "points": rows.to_dict("records")})
