"""The steps of a run, each of which reads its RUN folder and resumes from what that holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import PrunerError
from ..utils import (
    ProgressDisplay,
    SilentProgress,
    process_rank,
    require_single_process,
    write_text,
)
from . import console_summary as summary
from . import run_folder as names
from . import stages as steps
from .config import Config
from .console_summary import Outcome
from .context import Workspace, resolve_paths
from .metrics import Metrics
from .run_folder import RunFolder


def inspect(
    config: Config, progress: ProgressDisplay | None = None, everything: bool = False
) -> Outcome:
    """What can be cut of a network, and what is frozen and why. Writes nothing."""
    from .inspect import inspect_network

    space = Workspace(RunFolder(""), config, progress or SilentProgress())
    return inspect_network(space.net, space.dense, everything)


def measure(config: Config, progress: ProgressDisplay | None = None) -> Outcome:
    """Measure the latency table of a network into the RUN ``config.out``, or complete it."""
    require_single_process("measure")
    progress = progress or SilentProgress()
    if config.out is None:
        raise PrunerError("measure needs a folder for its results: give --out RUN")
    folder = RunFolder(config.out)
    if folder.exists:  # what was not said again stays as it was
        known = Config.from_dict(folder.state()["config"])
        kept = ("data", "budgets", "score", "solve", "finetune")
        config = replace(config, **{name: getattr(known, name) for name in kept})
    return steps.measure(Workspace(folder, config, progress), config)


def solve(
    run: str | os.PathLike[str],
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
) -> Outcome:
    """Choose the structure for the budget in ``changes``, verify it on the device, cut the network.

    changes are entries of `Config` that differ from what the RUN was given before.
    """
    require_single_process("solve")
    space, folder, config = Workspace.open(run, progress or SilentProgress())
    config = resolve_paths(config.changed(changes or {}))
    space.config = config
    if len(config.budgets) != 1:
        raise PrunerError("solve takes one budget: --budget 50%, 12ms or 80fps")
    if folder.state()["budgets"]:
        raise PrunerError(
            f"{steps.several_budgets(folder)}; for another budget measure into another RUN"
        )
    with folder.lock():
        return steps.solve(space, folder, config)


def finetune(
    run: str | os.PathLike[str],
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
) -> Outcome:
    """Win back accuracy of the cut network, with the dense one as the teacher.

    In the processes that `accelerate launch` starts, the first does all but the training, which
    they share.
    """
    first = process_rank() == 0
    space, folder, config = Workspace.open(run, (progress if first else None) or SilentProgress())
    config = resolve_paths(config.changed(changes or {}))
    space.config = config
    steps.need_plan(folder)
    if "epochs" not in (changes or {}).get("finetune", {}) and not config.finetune.epochs:
        raise PrunerError(f"{folder.path} was not told for how long: give --epochs N")
    if not first:
        return steps.assist_finetune(space, folder, config)
    with folder.lock():
        return steps.finetune(space, folder, config)


def bench(
    run: str | os.PathLike[str], runs: int = 200, progress: ProgressDisplay | None = None
) -> Outcome:
    """Time dense and pruned in turn on the engine, and put it into metrics.json."""
    require_single_process("bench")
    space, folder, config = Workspace.open(run, progress or SilentProgress())
    if runs < 1:
        raise PrunerError(f"--runs: expected at least 1, got {runs}")
    steps.need_plan(folder)
    with folder.lock():
        return steps.bench(space, folder, config, runs)


def report(run: str | os.PathLike[str]) -> Outcome:
    """Write RUN/report.html; of several budgets, one each and one over all."""
    from .report import render_overview, render_report

    folder = RunFolder(run)
    state = folder.state()
    if not state["budgets"]:
        steps.need_plan(folder)
        text = render_report(state, Metrics.load(folder.verify(names.METRICS)))
    else:
        children = [RunFolder(folder / slug) for slug in state["budgets"]]
        done = [child for child in children if "solve" in child.state()["steps"]]
        if not done:
            raise PrunerError(f"{folder.path}: no budget is solved yet")
        for child in done:
            report(child.path)
        rows = [(child.path.name, Metrics.load(child.verify(names.METRICS))) for child in done]
        text = render_overview(state, rows)
    write_text(folder / names.REPORT, text)
    return Outcome(f"report: {folder / names.REPORT}", {})


def run(
    config: Config, progress: ProgressDisplay | None = None, until: str | None = None
) -> Outcome:
    """All steps for all budgets of a configuration; what is done already is not done again.

    until ``"measure"`` or ``"solve"`` ends after that step: several processes may do the tuning
    (`finetune`).
    """
    require_single_process("run")
    progress = progress or SilentProgress()
    if config.out is None:
        raise PrunerError("entry out is missing: the folder for the results")
    if not config.budgets:
        raise PrunerError("entry budgets is missing: a list such as [70%, 50%]")
    base = RunFolder(config.out)
    space = Workspace(base, config, progress)
    if config.data is not None:
        _ = space.data  # refused before anything is measured
    outcome = steps.measure(space, config)
    if until == "measure":
        return outcome
    progress.say(str(outcome))
    config = resolve_paths(config)
    space.config = config
    several = len(config.budgets) > 1
    with base.lock():
        # All that is timed comes before all that trains: the machine is quiet for it once.
        folders = []
        for budget in config.budgets:
            one = replace(config, budgets=(budget,))
            folder = steps.child(space, base, one) if several else base
            progress.say(f"budget {budget}")
            progress.say(str(steps.solve(space, folder, one)))
            folders.append((folder, one))
        for folder, one in folders if config.data is not None and until is None else ():
            progress.say(str(steps.finetune(space, folder, one)))
        rows = [Metrics.load(folder.verify(names.METRICS)) for folder, _ in folders]
    outcome = report(base.path)
    return Outcome(
        f"{summary.summarize_budgets(rows)}\n{outcome}",
        {"budgets": [row.model_dump(exclude_unset=True) for row in rows]},
    )


def demo(out: str | os.PathLike[str], progress: ProgressDisplay | None = None) -> Outcome:
    """All steps on the embedded ResNet-20 and CIFAR-10 sample."""
    from ..demo import unpack
    from .demo import configuration

    folder = RunFolder(out)
    config = configuration(folder.path, folder / "data")
    space = Workspace(folder, replace(config, data=None), progress or SilentProgress())
    _ = space.dense, space.engine  # a RUN of something else is refused before it is touched
    unpack(folder / "data")
    return run(config, progress)
