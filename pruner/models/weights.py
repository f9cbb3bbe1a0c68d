"""Weights of a network: read from a file without running code in it, and digested."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PrunerError, PrunerWarning, first_line
from ..utils import digest_tensors
from .checkpoint_file import read_checkpoint

CHECKPOINT_KEYS = (
    "state_dict", "model", "model_state_dict", "net", "ema_state_dict", "state_dict_ema",
    "model_ema", "ema",
)  # fmt: skip
"""Under these keys training scripts put the state_dict into a checkpoint, the first one first."""
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What data parallelism, compilation, sharding and checkpointing put into the names of tensors."""
_COUNTERS = frozenset({"total_ops", "total_params", "n_averaged", "num_batches_tracked"})
"""Last parts of names that no network computes with: of profilers, averages and batch norms."""
_DEPTH = 3
State = Mapping[str, Tensor]


def digest(module: nn.Module) -> str:
    """Return the SHA-256 of a state_dict's names, types, shapes and values."""
    state = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    return digest_tensors(state, "{name} {dtype} {shape}\n")


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Load a file's tensors into a network.

    The tensors may lie in a checkpoint beside other things, and their names may carry what
    wrappers added, and the name of the part that the network was of a larger one, in any order.

    Raises:
        PrunerError: Names or shapes differ from those of the network, which is called name, or two
            different sets of weights in the file fit.
    """
    own = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    found = [
        (key, prefix, state)
        for key, tensors in find_states(_read_content(path))
        for prefix, state in _match_names(tensors, own)
    ]
    if not found:
        raise PrunerError(f"weights {str(path)!r} hold no state_dict: no tensors under names")
    fitting = [one for one in found if not _list_complaints(one[2], own)]
    if not fitting:
        known = [len(own.keys() & state.keys()) for _, _, state in found]
        complaints = "; ".join(_list_complaints(found[known.index(max(known))][2], own))
        raise PrunerError(f"weights {str(path)!r} do not fit {name}: {complaints}")
    module.load_state_dict(_choose(fitting, path, name), strict=False)


def find_states(content: Any, key: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, State]]:
    """Yield every mapping of names to tensors in a checkpoint, with the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield key, tensors
    if depth:
        first = [k for k in CHECKPOINT_KEYS if k in content]
        for k in (*first, *(k for k in content if k not in first)):
            if isinstance(k, str):
                yield from find_states(content[k], f"{key}.{k}" if key else k, depth - 1)


def _match_names(tensors: State, own: State) -> Iterator[tuple[str, State]]:
    """Yield the tensors under the network's names, for every prefix that most of them have.

    Wrappers' parts are left out on both sides, wherever they stand; what no prefix covers, too.
    """
    plain, given = {_unwrap(k): k for k in own}, {_unwrap(k): v for k, v in tensors.items()}
    if len(given) < len(tensors) or len(plain) < len(own):  # a network that has such names itself
        plain, given = {k: k for k in own}, dict(tensors)
    counts = Counter(
        name.removesuffix(ending)
        for name in given
        for parts in [name.split(".")]
        for ending in (".".join(parts[k:]) for k in range(len(parts)))
        if ending in plain
    )
    most = max(counts.values(), default=0)
    for prefix in [p for p, count in counts.items() if count == most] or [""]:
        inside = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        yield (
            prefix,
            {
                plain.get(k, k): value
                for k, value in inside.items()
                if k in plain or k.rpartition(".")[2] not in _COUNTERS
            },
        )


def _unwrap(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _list_complaints(state: State, own: State) -> list[str]:
    """Return what of the network is missing, unknown to it or of another shape, in words."""
    missing = [k for k in own if k not in state and k.rpartition(".")[2] not in _COUNTERS]
    unexpected = [k for k in state if k not in own]
    wrong = [
        f"{k} is {list(v.shape)} in the file and {list(own[k].shape)} in the network"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    return [
        f"{label} {list_some(keys)}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("shape:", wrong))
        if keys
    ]


def _choose(fitting: Sequence[tuple[str, str, State]], path: Path, name: str) -> State:
    """Return the first of the weights that fit; warn where others do, refuse where that matters."""
    key, prefix, state = fitting[0]
    place = ".".join(part for part in (key, prefix.rstrip(".")) if part)
    others = {
        ".".join(part for part in (k, p.rstrip(".")) if part)
        for k, p, other in fitting[1:]
        if any(not torch.equal(value, other[name]) for name, value in state.items())
    } - {place}
    known = all(part in CHECKPOINT_KEYS for part in key.split(".") if part)
    same_key = sum(k == key for k, _, _ in fitting) > 1
    if others and (not known or same_key):
        named = ", ".join(map(repr, sorted({place, *others})))
        raise PrunerError(
            f"weights {str(path)!r} hold several that fit {name}: {named}. Save the one that is "
            "meant by itself: torch.save(STATE_DICT, FILE)"
        )
    if others:
        warnings.warn(
            f"weights {str(path)!r}: those under {place!r} are read; {', '.join(sorted(others))} "
            "would fit too",
            PrunerWarning,
            stacklevel=4,
        )
    elif not known:
        warnings.warn(
            f"weights {str(path)!r}: those under {place!r} are read", PrunerWarning, stacklevel=4
        )
    return state


def _read_content(path: Path) -> Any:
    """Return the content of a safetensors or ``torch.save`` file; pickled code is never run."""
    if not path.is_file():
        raise PrunerError(f"there is no weights file {str(path)!r}")
    if path.suffix != ".safetensors":
        return read_checkpoint(path)
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:
        raise PrunerError(f"cannot read weights {str(path)!r}: {first_line(error)}") from error


def list_some(keys: Sequence[str]) -> str:
    """List at most three names and count the rest."""
    head = ", ".join(keys[:3])
    return head if len(keys) <= 3 else f"{head} and {len(keys) - 3} more"
