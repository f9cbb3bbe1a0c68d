"""Images without targets, for what compares networks or domains."""

import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import PrunerError
from ..utils import digest_json
from .decoding import decode_image, find_readable_endings
from .folders import exists, list_splits, walk_files
from .preprocessing import Preprocessing, show_image
from .sample_data import SampleData
from .samples import Sample, Samples


@dataclass(frozen=True)
class ImageSamples(Samples):
    """Images float32 [C, H, W], as image folders read them, and None for their targets.

    Attributes:
        root: The data set's folder.
        files: Of all rows.
        preprocessing: What happens to an image.
    """

    root: Path
    files: tuple[Path, ...]
    preprocessing: Preprocessing
    moves = False

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image."""
        return show_image(decode_image(self.files[row]), self.preprocessing, rng), None

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.files

    def fingerprint(self) -> str:
        """Return a digest of file names and settings."""
        names = [str(path.relative_to(self.root)) for path in self.files]
        return digest_json([names, asdict(self.preprocessing)])


def open_unlabelled(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[ImageSamples]:
    """Find all images below a folder, whatever their folders are called; nothing is decoded yet.

    Where there is a folder ``train`` these are the images below it, and those below ``val`` (or
    test) are the test samples.

    Args:
        folder: Holds images, or folders of them.
        preprocessing: The network's input.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"`` or ``"skip"`` samples that cannot be read.

    Raises:
        PrunerError: There is no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    places = list_splits(root)
    if "train" not in places:
        places = {"train": root}
    splits = {
        name: ImageSamples(root, _list_images(p), preprocessing) for name, p in places.items()
    }
    if not len(splits["train"]):
        raise PrunerError(f"{places['train']}: no images in this folder or below it")
    return SampleData(str(root), splits["train"], splits.get("test"), (), (), workers, on_error)


def _list_images(folder: Path) -> tuple[Path, ...]:
    endings = find_readable_endings()
    found = sorted(Path(name) for name in walk_files(str(folder), set()))
    return tuple(p for p in found if p.suffix.lower() in endings and exists(p))
