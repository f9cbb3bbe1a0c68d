"""The network that a RUN cuts: the dense one with its linear streams turned, kept in the RUN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import PrunerError
from ..surgery import find_streams, replace_tensors, rotate
from ..utils import digest_json, read_tensors, write_tensors
from . import run_folder as names
from .config import Config

if TYPE_CHECKING:
    from ..structure import Network
    from .context import Workspace


def rotate_network(space: Workspace, config: Config) -> tuple[Network, str | None]:
    """The network to score and cut, and the key by which `load_rotation` finds it again.

    Without images, without linear streams or where ``score.rotate`` is off, that is the dense
    network as it was traced, and the key is None.
    """
    options = config.score
    if config.data is None or not options.rotate or not find_streams(space.net):
        return space.net, None
    key = digest_json([space.data.fingerprint(), options.images, config.seed])
    if space.base.finished("rotate", key) is None:
        batches = space.data.train(
            options.batch_size, augment=False, seed=config.seed, limit=options.images
        )
        with space.progress.task("turn linear streams"):
            net = rotate(space.net, batches)
        before = space.net.program.tensors
        changed = {
            name: tensor.detach()
            for name, tensor in net.program.tensors.items()
            if tensor is not before[name]
        }
        space.base.commit(
            "rotate",
            key,
            lambda scratch: write_tensors(scratch / names.ROTATION, "rotation", changed, {}),
        )
    return load_rotation(space, key), key


def load_rotation(space: Workspace, key: str | None) -> Network:
    """The network that a plan was made for; PrunerError where the RUN was turned anew since."""
    if key is None:
        return space.net
    if space.base.finished("rotate", key) is None:
        raise PrunerError(
            f"{space.base.path} was scored anew on other images since this plan was made: "
            "repeat msprune solve"
        )
    tensors, _ = read_tensors(space.base / names.ROTATION, "rotation")
    return replace_tensors(space.net, tensors)
