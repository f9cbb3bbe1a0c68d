"""A whole model with pruned parts: what a RUN keeps of it, and how it is put together again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import PrunerError
from ..surgery import load as load_part
from ..utils import read_tensors, write_tensors
from .load import DenseModel, load_model
from .submodule import splice
from .weights import list_some

WHOLE = "whole.safetensors"
_KIND = "whole"


def save_whole(
    dense: DenseModel, arguments: Mapping[str, Any], paths: tuple[str, ...], folder: Path
) -> None:
    """Write what `load` needs beside the pruned parts: the other weights, and how it was built.

    Args:
        dense: The whole model before.
        arguments: Of its factory.
        paths: The parts' dotted names.
        folder: Where the parts' network is written too.
    """
    rest = {
        name: value.detach().contiguous().clone()
        for name, value in dense.module.state_dict().items()
        if isinstance(value, Tensor) and not _lies_within(name, paths)
    }
    notes = {
        "model": dense.name,
        "arguments": dict(arguments),
        "parts": list(paths),
        "pretrained": dense.weights == "pretrained",
    }
    write_tensors(folder / WHOLE, _KIND, rest, notes)


def load(folder: Path | str, *, part: bool = False) -> nn.Module:
    """Put a saved network together, in evaluation mode: with the whole that it is a part of.

    The whole's class is imported by the name that stands beside it. Whether files are those of
    their RUN is not looked at.

    Args:
        folder: Of `save` and `save_whole`, or its ``model.safetensors``.
        part: Return the pruned network alone, and import nothing.

    Raises:
        PrunerError: A file is missing or damaged, or the whole cannot be built here.
    """
    folder = Path(folder)
    small = load_part(folder)
    if part or not (folder / WHOLE).is_file():
        return small
    rest, notes = read_tensors(folder / WHOLE, _KIND)
    name, paths = str(notes["model"]), tuple(map(str, notes["parts"]))
    try:
        # Published weights say which architecture a repository holds.
        pretrained = bool(notes.get("pretrained")) and name.startswith("hf:")
        module = load_model(name, arguments=notes["arguments"], pretrained=pretrained).module
    except PrunerError as error:
        raise PrunerError(
            f"{folder} holds parts of {name}, which cannot be built here: {error}. "
            "pruner.load(RUN, part=True) gives them alone, and pruner.splice puts them into a model"
        ) from error
    found = module.load_state_dict(rest, strict=False)
    lost = [key for key in found.missing_keys if not _lies_within(key, paths)]
    if lost or found.unexpected_keys:
        raise PrunerError(
            f"{folder / WHOLE} does not fit {name} as it is built here: "
            f"{list_some(lost + found.unexpected_keys)}"
        )
    return splice(module, paths, small).eval()


def _lies_within(name: str, paths: tuple[str, ...]) -> bool:
    """Return whether a tensor's name is of one of these parts."""
    return any(name.startswith(f"{path}.") for path in paths)
