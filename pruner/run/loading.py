"""pruner.load: the network of a RUN, or of a folder that `pruner.save` wrote."""

import os
from pathlib import Path

from torch import nn

from ..errors import PrunerError
from ..models import WHOLE
from ..models import load as load_files
from ..surgery import FILE
from ..utils import digest_file
from .run_folder import STATE, RunFolder


def load(folder: str | os.PathLike[str], *, part: bool = False) -> nn.Module:
    """Return the network that a RUN holds, in evaluation mode; no pickle is read.

    Of a RUN that pruned parts of a model that is the whole model with the pruned parts in their
    places. Its class is imported by the name that RUN was begun with, from torchvision, timm,
    transformers or the user's own package, as every command on that RUN does.

    Args:
        folder: RUN, a folder that `save` wrote, or its ``model.safetensors``.
        part: Return the pruned network alone, and import nothing.

    Raises:
        PrunerError: A file is missing, damaged or another run's, or the whole cannot be built here.
    """
    path = Path(folder)
    run = RunFolder(path if path.is_dir() else path.parent)
    if run.exists:
        known = run.read_state()["files"]
        own = FILE if path.is_dir() else path.name
        for name in (own,) if part else (own, WHOLE):
            if (run / name).is_file() and digest_file(run / name) not in known.get(name, ()):
                raise PrunerError(
                    f"{run / name} is not what the steps of this RUN wrote: it is another run's, "
                    f"or was edited. Networks of your own go into a folder without {STATE}"
                )
    return load_files(path, part=part)
