"""The verb measure: times a network's latency table into a RUN."""

from dataclasses import replace
from pathlib import Path

import latency_tables
from latency_tables import LatencyTable

from ..errors import PrunerError
from ..utils import ProgressDisplay, digest_json, require_single_process
from . import run_folder as names
from .config import Config
from .console_summary import Outcome, summarize_table
from .context import Workspace, resolve_paths
from .device_commands import write_bundle

_KEPT = ("data", "target_data", "task", "budgets", "score", "solve", "rounds", "finetune")


def measure(config: Config | Workspace, progress: ProgressDisplay | None = None) -> Outcome:
    """Measure the latency table of a network into the RUN ``config.out``, or complete it."""
    require_single_process("measure")
    space = config if isinstance(config, Workspace) else _begin(config, progress)
    folder = space.base
    space.check_identity()
    if not space.net.dims and not space.net.blocks:
        raise PrunerError(
            f"{space.dense.name} has nothing that can be cut: msprune inspect says why"
        )
    space.check_engine()
    if isinstance(space.engine, latency_tables.BundledEngine):
        return write_bundle(space.net, space.engine, space.config)
    with folder.lock():
        fresh = not folder.exists
        if not fresh and isinstance(config, Config):  # another one may have ended meanwhile
            space = _keep_entries(space)
            space.check_identity()
        state = space.make_state() if fresh else folder.read_state()
        if fresh:
            folder.write_state(state)
        try:
            table = _measure_table(space)
        except latency_tables.LatencyError:
            if fresh:  # nothing was measured: leave nothing behind
                for name in (names.STATE, "latency.journal"):
                    (folder / name).unlink(missing_ok=True)
            raise
        content = resolve_paths(space.config).to_dict()
        if fresh or digest_json(content) != digest_json(state["config"]):
            folder.commit("measure", space.keys.measure, lambda scratch: None, config=content)
    return summarize_table(space, table)


def _begin(config: Config, progress: ProgressDisplay | None) -> Workspace:
    """Return the RUN's workspace, in which what is not said again stays as it was."""
    if config.out is None:
        raise PrunerError("measure needs a folder for its results: give --out RUN")
    space = Workspace.begin(config, progress)
    if not space.base.exists:
        return space
    return _keep_entries(space)


def _keep_entries(space: Workspace) -> Workspace:
    place = str(space.base / names.STATE)
    known = Config.from_dict(space.base.read_state()["config"], place)
    kept = {name: getattr(known, name) for name in _KEPT}
    return space.with_config(replace(space.config, **kept))


def _measure_table(space: Workspace) -> LatencyTable:
    options = space.config.measure
    with space.progress.task("measure") as advance:
        return latency_tables.measure(
            space.net, space.engine, probes=options.probes, quick=options.quick,
            path=space.base.path, library=_find_library(options.library), seed=space.config.seed,
            progress=lambda p: advance(p.done, p.total, p.note),
        )  # fmt: skip


def _find_library(name: str | None) -> Path | None:
    """Return the folder of tables that networks share; None where that is off."""
    if name == "none":
        return None
    return Path(name) if name is not None else latency_tables.library_folder()
