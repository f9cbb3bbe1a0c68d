"""Scores a run's network as the configuration says, and keeps the dense network's in the RUN."""

import shutil
from contextlib import suppress
from pathlib import Path

from ..importance import SolutionPath, score
from ..structure import Importance, Network
from .context import Workspace
from .rotation_stage import draw_batches, rotate_network
from .run_folder import CHECKPOINTS, IMPORTANCE


def load_importance(space: Workspace) -> Importance:
    """Return the importance of the network that is cut, estimated once a RUN."""
    key = space.keys.score
    if space.base.find_record("score", key):
        return Importance.load(space.base / IMPORTANCE)
    net, _ = rotate_network(space)
    journal = space.base / CHECKPOINTS / f"score-{key[:16]}"
    scores = score_network(space, net, journal)
    config = None if space.base.read_state()["budgets"] else space.config.to_dict()
    space.base.commit("score", key, lambda scratch: scores.save(scratch / IMPORTANCE), None, config)
    shutil.rmtree(journal, ignore_errors=True)
    with suppress(OSError):  # others are at work
        journal.parent.rmdir()
    return scores


def score_network(space: Workspace, net: Network, journal: Path | None = None) -> Importance:
    """Estimate the importance of a network as the configuration says.

    Args:
        space: What is asked.
        net: The network.
        journal: A folder in which a search that was killed is found again; None: it is not kept.
    """
    options, has_task = space.config.score, space.has_task
    batches = draw_batches(space) if has_task else None
    task = space.task if has_task else None
    criterion = (
        SolutionPath(
            form=options.path_form, steps=options.path_steps, seed=space.config.seed,
            journal=journal,
        )
        if options.criterion == SolutionPath.name else options.criterion
    )  # fmt: skip
    with space.progress.task(f"score by {options.criterion}") as advance:
        return score(
            net, batches, None, criterion, advance,
            task=task, curves=options.curves, combine=options.combine,
        )  # fmt: skip
