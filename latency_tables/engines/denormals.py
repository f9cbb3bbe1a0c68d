"""Denormal numbers as zeros while something is timed, and only then."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero in the calling thread, and set it back afterwards.

    Probes carry random weights, and activations that fade into denormal numbers would be timed at
    a tenth of the speed of any trained network's.
    """
    import torch

    before = _flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes_denormals() -> bool:
    return bool(np.finfo(np.float32).tiny * np.float32(0.5) == 0)
