"""Lets ``len(x)`` give the free batch of a tensor while its model is exported.

``len`` must return a plain number, so that ``torch.export`` makes a constant of the batch wherever
code asks for that by ``len(x)`` and not by ``x.shape[0]``. A global of the same name comes before
it.
"""

import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .model_state import is_foreign


@contextmanager
def keep_lengths_symbolic(model: nn.Module) -> Iterator[None]:
    """Let ``len`` leave the batch free meanwhile in the code of a model's packages."""
    kinds = {type(module) for module in model.modules()}
    packages = {kind.__module__.partition(".")[0] for kind in kinds if not is_foreign(kind)}
    spaces = [
        vars(module)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages and "len" not in vars(module)
    ]
    try:
        for space in spaces:
            space["len"] = _measure
        yield
    finally:
        for space in spaces:
            space.pop("len", None)


def _measure(value: Any) -> Any:
    """Return a tensor's first size as its shape has it, of anything else the plain length."""
    return value.shape[0] if isinstance(value, Tensor) and value.dim() else builtins.len(value)
