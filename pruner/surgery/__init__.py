"""Applies a Plan, proves that it was applied right, and writes and reads what it left."""

from .apply import apply
from .compaction import expanded, narrowed, widened
from .pca_rotation import rotate, streams, with_tensors
from .serialization import load, save
from .topk_alignment import Following, selections
from .verify import call, difference, silence, verify

__all__ = [
    "Following", "apply", "call", "difference", "expanded", "load", "narrowed", "rotate", "save",
    "selections", "silence", "streams", "verify", "widened", "with_tensors",
]  # fmt: skip
