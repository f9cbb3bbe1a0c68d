"""Parameters and buffers of a module by their dotted names."""

from collections import defaultdict

from torch import Tensor, nn


def named_tensors(module: nn.Module, tied: bool = False) -> dict[str, Tensor]:
    """Return parameters, then buffers by name, those that are not saved too.

    Args:
        module: Any module.
        tied: Give a tensor that is held several times under each of its names, not the first only.
    """
    return {
        **dict(module.named_parameters(remove_duplicate=not tied)),
        **dict(module.named_buffers(remove_duplicate=not tied)),
    }


def group_tied_names(module: nn.Module) -> list[list[str]]:
    """Return the names of every tensor, all of those that one tensor goes by together."""
    groups: dict[int, list[str]] = defaultdict(list)
    for name, tensor in named_tensors(module, tied=True).items():
        groups[id(tensor)].append(name)
    return list(groups.values())
