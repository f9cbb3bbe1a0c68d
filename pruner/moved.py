"""Imports by the paths of before the rooms keep working, with a DeprecationWarning.

Only what was written about is kept: scripts that import ``pruner.cost`` or ``pruner.verify`` are
pointed to the room that the function is in now.
"""

import importlib
import sys
import types
import warnings
from collections.abc import Mapping

MOVED: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "pruner.budget": ("pruner.problem", {}),
    "pruner.cost": ("pruner.structure", {"macs": "count_macs", "parameters": "count_parameters"}),
    "pruner.export": ("pruner.graph", {"flat": "flatten_io"}),
    "pruner.formulate": ("pruner.problem", {"worth": "objective_value"}),
    "pruner.network": ("pruner.structure", {}),
    "pruner.plan": ("pruner.structure", {}),
    "pruner.repair": ("pruner.reconstruction", {}),
    "pruner.store": ("pruner.surgery", {}),
    "pruner.trace": ("pruner.structure", {"network": "build_network"}),
    "pruner.verify": ("pruner.surgery", {"call": "call_flat", "difference": "largest_difference"}),
}
"""Former module -> the room that holds its names now, and which of them are called otherwise."""


class _MovedModule(types.ModuleType):
    def __getattr__(self, name: str) -> object:
        room, renamed = MOVED[self.__name__]
        if name.startswith("__"):
            raise AttributeError(name)
        new = renamed.get(name, name)
        warnings.warn(
            f"{self.__name__}.{name} is {room}.{new} now", DeprecationWarning, stacklevel=2
        )
        return getattr(importlib.import_module(room), new)


def install() -> None:
    """Let ``import`` find the former modules."""
    for name in MOVED:
        # Straight into sys.modules: the import system would make pruner.verify, which is a
        # function, an attribute that is the module.
        sys.modules.setdefault(name, _MovedModule(name))
