"""The verbs that take one look at a network or a RUN, and the two that do all of it."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from latency_tables import BundledEngine, LatencyTable

from ..demo import unpack
from ..errors import PrunerError
from ..surgery import load
from ..utils import ProgressDisplay, require_single_process, write_text
from . import run_folder as names
from .collect_metrics import add_timings, time_in_turn
from .config import Config
from .console_summary import Outcome, summarize_bench, summarize_budgets
from .context import Workspace, find_base, open_run, resolve_paths
from .finetune_stage import finetune
from .frontier_stage import read_frontier
from .inspect import inspect_network
from .measure_stage import measure
from .report import render_overview, render_report
from .results import commit_results, read_metrics, require_plan
from .run_folder import RunFolder
from .solve_stage import solve
from .strategy_stage import check_strategy


def inspect(
    config: Config, progress: ProgressDisplay | None = None, everything: bool = False
) -> Outcome:
    """Say what can be cut of a network, and what is frozen and why. Writes nothing."""
    space = Workspace.begin(config, progress)
    return inspect_network(space.net, space.dense, everything)


def bench(
    run: str | os.PathLike[str], runs: int = 200, progress: ProgressDisplay | None = None
) -> Outcome:
    """Time dense and pruned in turn on the engine, and put it into metrics.json."""
    require_single_process("bench")
    if runs < 1:
        raise PrunerError(f"--runs: expected at least 1, got {runs}")
    with open_run(run, progress=progress) as space:
        require_plan(space.folder)
        space.check_identity()
        space.load_table()  # refuses another device's RUN
        metrics = read_metrics(space.folder)
        for name in space.folder.read_state()["steps"]["solve"]["files"]:
            space.folder.verify(name)
        metrics = add_timings(metrics, time_in_turn(space, load(space.folder.path), runs))
        commit_results(space, "bench", space.keys.of_bench(runs), metrics)
    return summarize_bench(metrics)


def report(run: str | os.PathLike[str]) -> Outcome:
    """Write RUN/report.html; of several budgets, one each and one over all."""
    folder = RunFolder(run)
    state = folder.read_state()
    if not state["budgets"]:
        require_plan(folder)
        base = find_base(folder)
        frontier, place = read_frontier(base), base / names.LATENCY
        table = LatencyTable.load(place) if place.is_file() else None
        text = render_report(state, read_metrics(folder), table, frontier)
    else:
        children = [RunFolder(folder / slug) for slug in state["budgets"]]
        solved = [child for child in children if "solve" in child.read_state()["steps"]]
        if not solved:
            raise PrunerError(f"{folder.path}: no budget is solved yet")
        for child in solved:
            report(child.path)
        rows = [(child.path.name, read_metrics(child)) for child in solved]
        text = render_overview(state, rows)
    write_text(folder / names.REPORT, text)
    return Outcome(f"report: {folder / names.REPORT}", {})


def run(
    config: Config, progress: ProgressDisplay | None = None, until: str | None = None
) -> Outcome:
    """Do all steps for all budgets of a configuration; what is done already is not done again.

    ``until="measure"`` or ``"solve"`` ends after that step: several processes may do the tuning
    (`finetune`).
    """
    require_single_process("run")
    if config.out is None:
        raise PrunerError("entry out is missing: the folder for the results")
    if not config.budgets:
        raise PrunerError("entry budgets is missing: a list such as [70%, 50%]")
    space = Workspace.begin(config, progress)
    space.check_identity()
    check_strategy(space)
    space.check_data()  # refused before anything is measured
    outcome = measure(space)
    if until == "measure" or isinstance(space.engine, BundledEngine):  # nothing is measured yet
        return outcome
    space.progress.say(str(outcome))
    space = space.with_config(resolve_paths(config))
    with space.base.lock():
        # All that is timed comes before all that trains: the machine is quiet for it once.
        solved = []
        for budget in config.budgets:
            one = space.with_budget(budget) if len(config.budgets) > 1 else space
            space.progress.say(f"budget {budget}")
            with _lock_budget(one):
                space.progress.say(str(solve(one)))
            solved.append(one)
        for one in solved if space.has_task and until is None else ():
            with _lock_budget(one):
                space.progress.say(str(finetune(one)))
        rows = [read_metrics(one.folder) for one in solved]
    return Outcome(
        f"{summarize_budgets(rows)}\n{report(space.base.path)}",
        {"budgets": [row.to_data() for row in rows]},
    )


def _lock_budget(space: Workspace) -> AbstractContextManager[None]:
    """Keep other commands out of the folder of one of several budgets."""
    return nullcontext() if space.folder is space.base else space.folder.lock()


def demo(out: str | os.PathLike[str], progress: ProgressDisplay | None = None) -> Outcome:
    """Do all steps on the embedded ResNet-20 and CIFAR-10 sample."""
    folder = RunFolder(out)
    # 70% of the dense latency, and as much tuning as a minute allows.
    config = Config.from_dict(
        {
            "model": "demo:resnet20",
            "out": str(folder.path),
            "data": str(folder / "data"),
            "budgets": ["70%"],
            "measure": {"quick": True, "probes": 14},
            "solve": {"attempts": 3},
            "score": {"criterion": "measured", "images": 512},
            "finetune": {"repair": 128, "epochs": 5, "batch": 64, "recalibrate": 1024},
        }
    )
    # A RUN of something else is refused before it is touched.
    space = Workspace.begin(replace(config, data=None), progress)
    space.check_identity()
    space.check_engine()
    unpack(folder / "data")
    return run(config, progress)
