"""Scores a run's network as the configuration says, and keeps the dense network's in the RUN."""

from ..importance import score
from ..structure import Importance, Network
from .context import Workspace
from .rotation_stage import draw_batches, rotate_network
from .run_folder import IMPORTANCE


def load_importance(space: Workspace) -> Importance:
    """Return the importance of the network that is cut, estimated once a RUN."""
    key = space.keys.score
    if space.base.find_record("score", key):
        return Importance.load(space.base / IMPORTANCE)
    net, _ = rotate_network(space)
    scores = score_network(space, net)
    config = None if space.base.read_state()["budgets"] else space.config.to_dict()
    space.base.commit("score", key, lambda scratch: scores.save(scratch / IMPORTANCE), None, config)
    return scores


def score_network(space: Workspace, net: Network) -> Importance:
    """Estimate the importance of a network as the configuration says."""
    options, has_task = space.config.score, space.has_task
    batches = draw_batches(space) if has_task else None
    task = space.task if has_task else None
    with space.progress.task(f"score by {options.criterion}") as advance:
        return score(net, batches, None, options.criterion, advance, task=task)
