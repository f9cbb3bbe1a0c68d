"""DatasetSamples: any map-style data set, such as ``torch.utils.data.Dataset``, as samples."""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PrunerError, first_line
from ..utils import derive_seed, digest_json
from .collate import to_tensor
from .decoding import make_rgb
from .dense_images import DenseImages
from .framing import check_same_size
from .mask_values import find_classes
from .preprocessing import show_image
from .samples import Sample, Samples


@dataclass(frozen=True)
class DatasetSamples(Samples):
    """Samples of an object with ``__len__`` and ``__getitem__``, whatever tensors it gives.

    The generators of torch, numpy and Python are seeded by epoch and row while it is asked, and
    left as they were, so that its own random changes are repeated by a resumed run.

    Attributes:
        where: The factory, or what else it is called in messages.
        dataset: Gives pairs (inputs, targets); a tensor or a dict alone is inputs without targets.
        how: What becomes of Pillow's images, which many data sets give: as in image folders, or as
            with class masks where the target is an image too. None refuses them.
        targets: Keys of dicts that are targets, where samples are dicts.
        ignore: Value of pixels of masks that do not count.
    """

    where: str
    dataset: Any
    how: DenseImages | None = None
    targets: tuple[str, ...] = ()
    ignore: int = 255

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Ask for a row, with all generators seeded; what it raises becomes a PrunerError."""
        seed = derive_seed("row", row) if rng is None else rng.getrandbits(56)
        try:
            with seed_generators(seed):
                found = self.dataset[row]
        except Exception as error:  # whatever the user's data set raises
            raise PrunerError(f"{self.where}: sample {row}: {first_line(error)}") from error
        return self.split(found, f"{self.where}: sample {row}", rng)

    def split(self, found: Any, name: str, rng: random.Random | None) -> Sample:
        """Return what a data set gives as inputs and targets; PrunerError where it is no sample."""
        inputs, targets = split_sample(found, self.targets, name)
        if not isinstance(inputs, Image.Image):
            return _tensors_only(inputs, name), to_tensor(targets)
        if self.how is None:
            raise PrunerError(f"{name} is an image, not a tensor: give the data set a transform")
        image = make_rgb(inputs, name)
        if not isinstance(targets, Image.Image):
            return show_image(image, self.how.preprocessing, rng), to_tensor(targets)
        mask = find_classes(targets, name)
        shown, frame = self.how.show(image, rng)
        check_same_size(name, "mask", frame.image, mask.shape[:2])
        return shown, torch.from_numpy(frame.cut_mask(mask, self.ignore))

    def fingerprint(self) -> str:
        """Return a digest of name, length and settings, and of what is read.

        That is the data set's own ``fingerprint()``, or all samples of a list, or else three.
        """
        settings = [self.how and self.how.describe(), self.targets, self.ignore]
        return digest_json([self.where, len(self), self._content, settings])

    @cached_property
    def _content(self) -> list[str]:
        own = getattr(self.dataset, "fingerprint", None)
        if callable(own):
            return [str(own())]
        if isinstance(self.dataset, list):
            return [digest_tree(self.dataset)]
        count = len(self)
        rows = sorted({0, count // 2, count - 1}) if count else []
        return [self._digest_row(row) for row in rows]

    def _digest_row(self, row: int) -> str:
        try:
            return digest_tree(self.read(row, None))
        except PrunerError as error:
            return str(error)


def split_sample(found: Any, targets: Sequence[str], name: str) -> Sample:
    """Return inputs and targets of what a data set gave; None for targets that it has not.

    Raises:
        PrunerError: A tuple is no pair, or a dict has not the keys that are targets.
    """
    if isinstance(found, Mapping):
        missing = [key for key in targets if key not in found]
        if missing:
            raise PrunerError(f"{name} has no {missing[0]}; found {', '.join(map(str, found))}")
        inputs = {str(key): value for key, value in found.items() if key not in targets}
        return inputs, {key: found[key] for key in targets} or None
    if isinstance(found, tuple | list) and len(found) == 2:
        return found[0], found[1]
    if isinstance(found, Tensor | np.ndarray | Image.Image):
        return found, None
    count = f" of {len(found)}" if isinstance(found, tuple | list) else ""
    raise PrunerError(
        f"{name} is a {type(found).__name__}{count}; expected a pair (inputs, targets), or inputs "
        "alone: a tensor or a dict"
    )


@contextmanager
def seed_generators(seed: int) -> Iterator[None]:
    """Seed the generators of torch (CPU), numpy and Python for a while; leave them as they were."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


def digest_tree(tree: Any) -> str:
    """Return the SHA-256 of a pytree's tensors, texts and numbers."""
    digest = hashlib.sha256()
    _add_tree(tree, digest)
    return digest.hexdigest()


def _add_tree(tree: Any, digest: Any) -> None:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            digest.update(f"{key}:".encode())
            _add_tree(value, digest)
    elif isinstance(tree, tuple | list):
        digest.update(f"[{len(tree)}".encode())
        for value in tree:
            _add_tree(value, digest)
    elif isinstance(tree, Tensor):
        digest.update(f"{tree.dtype}{tuple(tree.shape)}".encode())
        flat = tree.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    elif isinstance(tree, Image.Image):
        digest.update(f"{tree.mode}{tree.size}".encode() + tree.tobytes())
    elif isinstance(tree, np.ndarray | np.generic):
        _add_tree(to_tensor(tree), digest)
    else:
        # Of other objects the kind: their repr may hold an address.
        plain = isinstance(tree, str | bytes | int | float | bool | type(None))
        digest.update((repr(tree) if plain else type(tree).__name__).encode())


def _tensors_only(inputs: Any, name: str) -> Any:
    """Return inputs whose arrays and numbers are tensors; PrunerError for images within."""
    if isinstance(inputs, Image.Image):
        raise PrunerError(f"{name} has an image, not a tensor: give the data set a transform")
    if isinstance(inputs, Mapping):
        return {key: _tensors_only(value, f"{name}, {key},") for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        parts = [_tensors_only(value, name) for value in inputs]
        return type(inputs)(*parts) if hasattr(inputs, "_fields") else tuple(parts)
    return to_tensor(inputs)
