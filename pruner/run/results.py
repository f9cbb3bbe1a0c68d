"""A budget's results in its folder: the network, its plan and its figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import fx

from ..errors import PrunerError
from ..models import save_whole
from ..structure import Plan
from ..surgery import save
from ..utils import write_text
from .context import Workspace
from .metrics import Metrics
from .run_folder import METRICS, REPORT, RunFolder


def read_metrics(folder: RunFolder) -> Metrics:
    """Read the figures of a budget; PrunerError where they were damaged."""
    return Metrics.load(folder.verify(METRICS))


def commit_results(
    space: Workspace,
    step: str,
    key: str,
    metrics: Metrics,
    network: tuple[fx.GraphModule, Plan] | None = None,
    details: Mapping[str, Any] | None = None,
    forget: tuple[str, ...] = (),
) -> None:
    """Take a step's figures, and its network where it made one, into the budget's folder.

    Reports of what was before are taken away.
    """

    def write(scratch: Path) -> None:
        if network is not None:
            save(*network, scratch)
        if network is not None and step == "solve" and space.config.parts:
            save_whole(space.dense, space.config.arguments, space.config.parts, scratch)
        write_text(scratch / METRICS, metrics.to_json())

    config = None if network is None else space.config.to_dict()
    space.folder.commit(step, key, write, details, config, forget)
    for folder in (space.folder, space.base):
        (folder / REPORT).unlink(missing_ok=True)


def describe_budgets(folder: RunFolder) -> str:
    """Say that a RUN holds several budgets, and where."""
    children = ", ".join(str(folder / slug) for slug in folder.read_state()["budgets"])
    return f"{folder.path} holds several budgets ({children})"


def require_plan(folder: RunFolder) -> None:
    """Raise PrunerError where no structure for one budget was chosen yet."""
    state = folder.read_state()
    if state["budgets"]:
        raise PrunerError(f"{describe_budgets(folder)}: give one of them")
    if "solve" not in state["steps"]:
        raise PrunerError(f"{folder.path} holds no plan: msprune solve {folder.path} --budget 50%")
