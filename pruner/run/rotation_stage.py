"""The network that a RUN cuts: the dense one with its residual streams rotated, kept in the RUN."""

from ..data import EpochBatches
from ..errors import PrunerError
from ..structure import Network
from ..surgery import find_streams, replace_tensors, rotate
from ..utils import read_tensors, write_tensors
from .context import Workspace
from .run_folder import ROTATION

_KIND = "rotation"


def draw_batches(space: Workspace) -> EpochBatches:
    """Return the training samples that scores and rotation look at, unaugmented."""
    options = space.config.score
    return space.data.train(
        options.batch_size, augment=False, seed=space.config.seed, limit=options.images
    )


def rotate_network(space: Workspace) -> tuple[Network, str | None]:
    """Return the network to score and cut, and the key by which `load_rotation` finds it again.

    Without data, without linear streams or where ``score.rotate`` is off, that is the dense
    network as it was traced, and the key is None.
    """
    config = space.config
    if not space.has_task or not config.score.rotate or not find_streams(space.net):
        return space.net, None
    key = space.keys.rotate
    if space.base.find_record("rotate", key) is None:
        batches = draw_batches(space)
        with space.progress.task("turn linear streams"):
            net = rotate(space.net, batches, task=space.task)
        before = space.net.program.tensors
        changed = {
            name: tensor.detach()
            for name, tensor in net.program.tensors.items()
            if tensor is not before[name]
        }
        space.base.commit(
            "rotate", key, lambda scratch: write_tensors(scratch / ROTATION, _KIND, changed, {})
        )
    return load_rotation(space, key), key


def load_rotation(space: Workspace, key: str | None) -> Network:
    """Return the network that a plan was made for; PrunerError where it was rotated anew since."""
    if key is None:
        return space.net
    if space.base.find_record("rotate", key) is None:
        raise PrunerError(
            f"{space.base.path} was scored anew on other data since this plan was made: "
            "repeat msprune solve"
        )
    tensors, _ = read_tensors(space.base / ROTATION, _KIND)
    return replace_tensors(space.net, tensors)
