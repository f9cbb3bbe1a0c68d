"""ImageData: a folder of images in class folders, as training and test batches."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from ..errors import PrunerError, PrunerWarning
from .decoding import find_readable_endings
from .folders import exists, find_splits, walk_files
from .loader import Batches, Split
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .sample_batches import BrokenSamples, check_on_error

_EXPECTED = "expected train/CLASS/*.jpg and val/CLASS/*.jpg or test/CLASS/*.jpg"


@dataclass(frozen=True)
class ImageData:
    """The images under a folder: ``train/CLASS/*.jpg`` and ``val|test|valid/CLASS/*.jpg``.

    Every file below a class folder counts whose ending names a format that Pillow reads.

    Attributes:
        folder: Where they are.
        classes: Sorted names of the class folders of both splits; a label is an index into them, so
            a class may have images in one split only.
        found: What was found and is not read, and which classes have no images, in words.
        preprocessing: What happens to an image before the network sees it.
        workers: Processes that decode large training images.
    """

    folder: Path
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    workers: int
    found: tuple[str, ...]
    _train: Split = field(repr=False)
    _test: Split | None = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found on opening, and how many images were skipped so far, in words."""
        splits = [self._train, *([self._test] if self._test else [])]
        return (*self.found, *(note for split in splits for note in split.broken.describe()))

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
            raise PrunerError(
                f"{self.folder}: no images under val/CLASS, test/CLASS or valid/CLASS"
            )
        return Batches(self._test, batch, limit=limit, shard=shard, workers=self.workers)

    def fingerprint(self) -> str:
        """Return a digest of file names, classes and preprocessing, which tells data sets apart."""
        splits = [self._train, *([self._test] if self._test else [])]
        names = [[str(p.relative_to(self.folder)) for p in split.files] for split in splits]
        content = [names, self.classes, asdict(self.preprocessing)]
        text = json.dumps([*content, "skip"] if self._train.skip else content)
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
    on_error: str = "raise",
) -> ImageData:
    """Find the images of a folder; nothing is decoded yet.

    Args:
        folder: Holds train and val, test or valid, of class folders.
        size: The network's input: (height, width) or a square's side.
        outputs: The network's number of classes, to be checked against the folder's.
        mean: See `Preprocessing`.
        std: See `Preprocessing`.
        crop: See `Preprocessing`.
        interpolation: See `Preprocessing`.
        workers: Processes that decode large training images (default: the cores, at most 8).
        cache_mb: Decoded images of a split are kept in memory if they take at most that much.
        on_error: ``"raise"`` or ``"skip"`` images that cannot be read: in training the next one
            takes the place of one, an evaluation goes without it; notes count them.

    Raises:
        PrunerError: The folder, its train folder or its classes are missing, or the number of
            classes is not the network's.
    """
    root = Path(folder)
    height, width = (size, size) if isinstance(size, int) else size
    preprocessing = Preprocessing((height, width), tuple(mean), tuple(std), crop, interpolation)
    splits = find_splits(root, _EXPECTED)
    listed = {name: _find_images(place) for name, place in splits.items()}
    found = {name: images for name, (images, _) in listed.items()}
    classes = tuple(sorted({label for images in found.values() for label in images}))
    notes = [
        note
        for name, (images, left_out) in listed.items()
        for note in _describe_gaps(splits[name].name, classes, images, left_out)
    ]
    if not any(found["train"].values()):
        raise PrunerError(
            f"{root}: no images in class folders under {splits['train'].name}; {_EXPECTED}"
            + "".join(f". {note}" for note in notes)
        )
    _check_outputs(root, classes, outputs)
    for note in notes:
        warnings.warn(f"{root}: {note}", PrunerWarning, stacklevel=2)
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    skip = check_on_error(on_error) == "skip"
    train, test = (
        _make_split(found.get(name, {}), classes, preprocessing, cache_mb * 2**20, skip, root)
        for name in ("train", "test")
    )
    test_split = test if test.files else None
    return ImageData(root, classes, preprocessing, workers, tuple(notes), train, test_split)


def _check_outputs(root: Path, classes: tuple[str, ...], outputs: int | None) -> None:
    if outputs is not None and len(classes) != outputs:
        raise PrunerError(
            f"{root}: {len(classes)} class folders ({', '.join(classes[:3])}...), but the network "
            f"has {outputs} outputs; give the data that it was trained on"
        )


def _find_images(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return the image files by class folder, in the order of their paths, and the other files.

    Hidden files and folders are passed over.
    """
    endings = find_readable_endings()
    images: dict[str, list[Path]] = {}
    left_out = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            left_out.append(entry)
            continue
        files = sorted(Path(p) for p in walk_files(str(entry), set()))
        images[entry.name] = [p for p in files if p.suffix.lower() in endings and exists(p)]
        left_out += sorted({*files} - {*images[entry.name]})
    return images, left_out


def _describe_gaps(
    split: str, classes: Sequence[str], images: dict[str, list[Path]], left_out: list[Path]
) -> list[str]:
    """Return what of a split is not read, and its classes without images, in words."""
    counts = Counter(
        "links to nothing" if not p.exists() else p.suffix.lower() or "no ending" for p in left_out
    )
    empty = [name for name in classes if not images.get(name)]
    notes = []
    if counts:
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common(5))
        notes.append(
            f"{len(left_out)} files under {split} are not read ({kinds}; first {left_out[0]}): "
            "images lie in class folders and end as a format that Pillow reads"
        )
    if empty:
        some = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        notes.append(f"no images in class folders under {split}: {some}")
    return notes


def _make_split(
    images: dict[str, list[Path]], classes: tuple[str, ...], preprocessing: Preprocessing,
    cache_bytes: int, skip: bool, root: Path,
) -> Split:  # fmt: skip
    pairs = [(path, label) for label, name in enumerate(classes) for path in images.get(name, ())]
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    files, broken = tuple(path for path, _ in pairs), BrokenSamples(str(root))
    return Split(files, labels, preprocessing, cache_bytes, skip, broken)
