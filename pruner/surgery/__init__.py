"""Applies a Plan, proves that it was applied right, and writes and reads what it left."""

from .apply import apply
from .compaction import compact_network, scatter_importance, scatter_tensors
from .kept_elements import find_kept_elements
from .pca_rotation import find_streams, replace_tensors, rotate
from .serialization import FILE, load, save
from .topk_alignment import AlignedInterpreter, find_selections
from .verify import call_flat, compare_masked, largest_difference, silence_removed, verify

__all__ = [
    "AlignedInterpreter", "FILE", "apply", "call_flat", "compact_network", "compare_masked",
    "find_kept_elements", "find_selections", "find_streams",
    "largest_difference", "load", "replace_tensors", "rotate", "save",
    "scatter_importance", "scatter_tensors", "silence_removed", "verify",
]  # fmt: skip
