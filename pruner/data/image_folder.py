"""ImageData: a folder of images in class folders, as training and test batches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from .loader import Batches, Split
from ..errors import PrunerError
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

_ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class ImageData:
    """The images under a folder: ``train/CLASS/*.jpg`` and ``val|test/CLASS/*.jpg``.

    classes are the sorted names of the class folders over both splits; an image's label is its
    place among them, so a class may have images in one split only.
    """

    folder: Path
    classes: tuple[str, ...]
    how: Preprocessing
    workers: int
    _train: Split = field(repr=False)
    _test: Split | None = field(repr=False)

    def train(
        self,
        batch: int = 128,
        *,
        augment: bool = True,
        seed: int = 0,
        limit: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> Batches:
        """Shuffled training batches; without augmentation for scores and statistics."""
        return Batches(self._train, batch, augment, True, seed, limit, shard, self.workers)

    def test(
        self, batch: int = 256, *, limit: int | None = None, shard: tuple[int, int] = (0, 1)
    ) -> Batches:
        """All test images, in order; PrunerError where there are none."""
        if self._test is None:
            raise PrunerError(f"{self.folder}: no images under val/CLASS or test/CLASS")
        return Batches(self._test, batch, limit=limit, shard=shard, workers=self.workers)

    def fingerprint(self) -> str:
        """A digest of file names, classes and preprocessing: tells one data set from another."""
        splits = [self._train, *([self._test] if self._test else [])]
        names = [[str(p.relative_to(self.folder)) for p in split.files] for split in splits]
        text = json.dumps([names, self.classes, asdict(self.how)])
        return hashlib.sha256(text.encode()).hexdigest()


def open_images(
    folder: str | os.PathLike[str],
    size: int | tuple[int, int],
    *,
    outputs: int | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    crop: float = 0.875,
    interpolation: str = "bilinear",
    workers: int | None = None,
    cache_mb: int = 2048,
) -> ImageData:
    """Find the images of a folder; nothing is decoded yet.

    size
        The network's input: (height, width) or a square's side.
    outputs
        The network's number of classes, to be checked against the folder's.
    mean, std, crop, interpolation
        See `Preprocessing`.
    workers
        Processes that decode large training images (default: the cores, at most 8).
    cache_mb
        Decoded images of a split are kept in memory if they take at most this many megabytes.

    Raises PrunerError where the folder, its train folder or its classes are missing, or where the
    number of classes is not the network's.
    """
    root = Path(folder)
    height, width = (size, size) if isinstance(size, int) else size
    how = Preprocessing((height, width), tuple(mean), tuple(std), crop, interpolation)
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    expected = "expected train/CLASS/*.jpg and val/CLASS/*.jpg or test/CLASS/*.jpg"
    if not (root / "train").is_dir():
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
        raise PrunerError(f"{root}: no train folder; {expected}, found {inside}")
    held_out = next((n for n in ("val", "test") if (root / n).is_dir()), None)
    found = {name: _scan(root / name) for name in ("train", held_out) if name}
    classes = tuple(sorted({label for split in found.values() for label in split}))
    if not any(found["train"].values()):
        raise PrunerError(f"{root}: no images in class folders under train; {expected}")
    if outputs is not None and len(classes) != outputs:
        raise PrunerError(
            f"{root}: {len(classes)} class folders ({', '.join(classes[:3])}...), but the network "
            f"has {outputs} outputs; give the data that it was trained on"
        )
    if workers is None:
        workers = min(8, os.cpu_count() or 1)
    splits = {name: _split(files, classes, how, cache_mb) for name, files in found.items()}
    test = splits.get(held_out) if held_out else None
    return ImageData(
        root, classes, how, workers, splits["train"], test if test and test.files else None
    )


def _scan(folder: Path) -> dict[str, list[Path]]:
    """Image files by class folder, in name order; hidden files are left out."""
    return {
        entry.name: sorted(
            p
            for p in entry.iterdir()
            if p.suffix.lower() in _ENDINGS and not p.name.startswith(".")
        )
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    }


def _split(
    found: dict[str, list[Path]], classes: tuple[str, ...], how: Preprocessing, cache_mb: int
) -> Split:
    pairs = [(path, label) for label, name in enumerate(classes) for path in found.get(name, ())]
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    return Split(tuple(path for path, _ in pairs), labels, how, cache_mb * 2**20)
