"""ImageData: a folder of images in class folders, as training and test batches."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from ..errors import PrunerError
from .loader import Batches, Split
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

_ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class ImageData:
    """The images under a folder: ``train/CLASS/*.jpg`` and ``val|test/CLASS/*.jpg``.

    Attributes:
        folder: Where they are.
        classes: Sorted names of the class folders of both splits; a label is an index into them, so
            a class may have images in one split only.
        preprocessing: What happens to an image before the network sees it.
        workers: Processes that decode large training images.
    """

    folder: Path
    classes: tuple[str, ...]
    preprocessing: Preprocessing
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
        """Return shuffled training batches; see `Batches` for the arguments."""
        return Batches(self._train, batch, augment, True, seed, limit, shard, self.workers)

    def test(
        self, batch: int = 256, *, limit: int | None = None, shard: tuple[int, int] = (0, 1)
    ) -> Batches:
        """Return batches of all test images, in order; PrunerError where there are none."""
        if self._test is None:
            raise PrunerError(f"{self.folder}: no images under val/CLASS or test/CLASS")
        return Batches(self._test, batch, limit=limit, shard=shard, workers=self.workers)

    def fingerprint(self) -> str:
        """Return a digest of file names, classes and preprocessing, which tells data sets apart."""
        splits = [self._train, *([self._test] if self._test else [])]
        names = [[str(p.relative_to(self.folder)) for p in split.files] for split in splits]
        text = json.dumps([names, self.classes, asdict(self.preprocessing)])
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

    Args:
        folder: Holds train and val or test, of class folders.
        size: The network's input: (height, width) or a square's side.
        outputs: The network's number of classes, to be checked against the folder's.
        mean: See `Preprocessing`.
        std: See `Preprocessing`.
        crop: See `Preprocessing`.
        interpolation: See `Preprocessing`.
        workers: Processes that decode large training images (default: the cores, at most 8).
        cache_mb: Decoded images of a split are kept in memory if they take at most that much.

    Raises:
        PrunerError: The folder, its train folder or its classes are missing, or the number of
            classes is not the network's.
    """
    root = Path(folder)
    height, width = (size, size) if isinstance(size, int) else size
    preprocessing = Preprocessing((height, width), tuple(mean), tuple(std), crop, interpolation)
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    expected = "expected train/CLASS/*.jpg and val/CLASS/*.jpg or test/CLASS/*.jpg"
    if not (root / "train").is_dir():
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
        raise PrunerError(f"{root}: no train folder; {expected}, found {inside}")
    held_out = next((n for n in ("val", "test") if (root / n).is_dir()), None)
    found = {name: _find_images(root / name) for name in ("train", held_out) if name}
    classes = tuple(sorted({label for split in found.values() for label in split}))
    if not any(found["train"].values()):
        raise PrunerError(f"{root}: no images in class folders under train; {expected}")
    if outputs is not None and len(classes) != outputs:
        raise PrunerError(
            f"{root}: {len(classes)} class folders ({', '.join(classes[:3])}...), but the network "
            f"has {outputs} outputs; give the data that it was trained on"
        )
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    train, test = (
        _make_split(found.get(name, {}), classes, preprocessing, cache_mb * 2**20)
        for name in ("train", held_out or "")
    )
    return ImageData(root, classes, preprocessing, workers, train, test if test.files else None)


def _find_images(folder: Path) -> dict[str, list[Path]]:
    """Return the image files by class folder, in name order, without hidden ones."""
    classes = (entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return {
        entry.name: sorted(
            p for p in entry.iterdir() if p.suffix.lower() in _ENDINGS and p.name[0] != "."
        )
        for entry in classes
    }


def _make_split(
    images: dict[str, list[Path]], classes: tuple[str, ...], preprocessing: Preprocessing,
    cache_bytes: int,
) -> Split:  # fmt: skip
    pairs = [(path, label) for label, name in enumerate(classes) for path in images.get(name, ())]
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    return Split(tuple(path for path, _ in pairs), labels, preprocessing, cache_bytes)
