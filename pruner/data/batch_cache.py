"""BatchCache: batches that are not changed at random, kept in memory after they were read once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .protocol import Batch


@dataclass
class BatchCache:
    """Batches by what they hold, up to a number of bytes; the first ones stay.

    Scores and candidates look at the same few batches again and again.

    Attributes:
        most_bytes: What all batches together may take.
    """

    most_bytes: int
    _batches: dict[tuple[int, ...], Batch] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def has(self, key: tuple[int, ...]) -> bool:
        """Whether there is a batch under a key, such as its rows."""
        return key in self._batches

    def get(self, key: tuple[int, ...]) -> Batch:
        """Return a copy, which a network that works in place may change."""
        inputs, targets = self._batches[key]
        return copy_tree(inputs), copy_tree(targets)

    def keep(self, key: tuple[int, ...], batch: Batch) -> None:
        """Keep a copy of a batch, if there is room."""
        size = count_bytes(batch)
        if key not in self._batches and self._bytes + size <= self.most_bytes:
            self._bytes += size
            self._batches[key] = copy_tree(batch[0]), copy_tree(batch[1])


def copy_tree(tree: Any) -> Any:
    """Return a pytree with copies of its tensors."""
    if isinstance(tree, Tensor):
        return tree.clone()
    if isinstance(tree, Mapping):
        return {key: copy_tree(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [copy_tree(value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def count_bytes(tree: Any) -> int:
    """Return what a pytree takes in memory, roughly for what is no tensor or array."""
    if isinstance(tree, Mapping):
        return sum(map(count_bytes, tree.values()))
    if isinstance(tree, tuple | list):
        return sum(map(count_bytes, tree))
    if isinstance(tree, str | bytes):
        return len(tree)
    size = getattr(tree, "nbytes", None)  # of tensors and arrays
    if size is not None:
        return int(size)
    bands = getattr(tree, "getbands", None)  # of Pillow's images
    return tree.width * tree.height * len(bands()) if bands is not None else 8
