"""Weights of a network: read from a file without running code in it, and digested."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import PrunerError, first_line
from ..utils import digest_tensors

CHECKPOINT_KEYS = ("state_dict", "model", "model_state_dict", "net", "ema_state_dict")
"""Under these keys training scripts put the state_dict into a checkpoint."""


def digest(module: nn.Module) -> str:
    """Return the SHA-256 of a state_dict's names, types, shapes and values."""
    state = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    return digest_tensors(state, "{name} {dtype} {shape}\n")


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load a file's tensors into a network.

    Raises:
        PrunerError: Names or shapes differ from those of the network, which is called name.
    """
    state = read_weights(path)
    own = module.state_dict()
    if state and all(key.startswith("module.") for key in state):  # saved under DataParallel
        state = {key[len("module.") :]: value for key, value in state.items()}
    # Counters of batches that many files leave out, and that eval mode never reads.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    wrong = [
        f"{k} is {list(v.shape)} in the file and {list(own[k].shape)} in the network"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    complaints = [
        f"{label} {list_some(keys)}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("shape:", wrong))
        if keys
    ]
    if complaints:
        raise PrunerError(f"weights {str(path)!r} do not fit {name}: " + "; ".join(complaints))
    module.load_state_dict(state, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or ``torch.save`` file; pickled code is never run."""
    if not path.is_file():
        raise PrunerError(f"there is no weights file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PrunerError(
            f"cannot read weights {str(path)!r} (a .safetensors file, or a torch.save file with "
            f"nothing but tensors): {first_line(error)}"
        ) from error
    for key in CHECKPOINT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise PrunerError(f"weights {str(path)!r} hold no state_dict")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise PrunerError(
            f"weights {str(path)!r} hold no state_dict: not tensors: {list_some(others)}"
        )
    return dict(content)


def list_some(keys: Sequence[str]) -> str:
    """List at most three names and count the rest."""
    head = ", ".join(keys[:3])
    return head if len(keys) <= 3 else f"{head} and {len(keys) - 3} more"
