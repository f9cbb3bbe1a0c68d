"""Images with boxes in COCO's JSON, for detection."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import PrunerError
from ..utils import digest_json
from .coco_file import CocoFile, read_coco
from .dense_images import DenseImages
from .framing import Framing, check_same_size
from .preprocessing import Preprocessing
from .sample_data import SampleData
from .samples import Sample, Samples

_TRAIN = ("train", "training")
_HELD_OUT = ("val", "valid", "validation", "test", "testing")
_EXPECTED = (
    "expected annotations/*train*.json with images under train*/ or images/train*/, or "
    "train/_annotations.coco.json beside its images or the folder of them, and val or test likewise"
)


@dataclass(frozen=True)
class BoxSamples(Samples):
    """Pairs (float32 [C, H, W], dict): an image and the boxes of the objects in it.

    The dict of an image has ``boxes`` float32 [k, 4] (left, top, right, bottom in pixels of the
    input), ``labels`` int64 [k] from 1 on, ``image_id`` int64 [], and ``size`` int64 [2], height
    and width of the image in its file. Where categories name keypoints it has ``keypoints`` too,
    float32 [k, K, 3]: x, y and visibility, 0 for those that are out of sight. Images without boxes
    have k = 0.

    Attributes:
        files: Images, in the order of the JSON file.
        coco: What the file says of them.
        labels: Category ids; label k is the k-th of them, counted from 1.
        how: How images are read and framed.
        by_id: Labels are the category ids themselves.
    """

    files: tuple[Path, ...]
    coco: CocoFile
    labels: tuple[int, ...]
    how: DenseImages
    by_id: bool = False
    ragged = True

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image and its boxes, which are moved, scaled, mirrored and clipped with it."""
        image, frame = self.how.read(self.files[row], rng)
        height, width = frame.image
        if self.coco.sizes[row].all():
            said = (int(self.coco.sizes[row][0]), int(self.coco.sizes[row][1]))
            check_same_size(str(self.files[row]), str(self.coco.path), frame.image, said)
        own = slice(self.coco.starts[row], self.coco.starts[row + 1])
        boxes = np.clip(self.coco.boxes[own], 0, [width, height, width, height])
        cut, keep = frame.cut_boxes(boxes)
        numbers = self.coco.categories[own][keep]
        if not self.by_id:
            numbers = np.searchsorted(self.labels, numbers) + 1
        target = {
            "boxes": torch.from_numpy(cut),
            "labels": torch.from_numpy(numbers.astype(np.int64)),
            "image_id": torch.tensor(self.coco.ids[row]),
            "size": torch.tensor([height, width]),
        }
        if self.coco.points is not None:
            points = frame.cut_points(self.coco.points[own][keep], self.coco.mirror)
            target["keypoints"] = torch.from_numpy(points)
        return image, target

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.files

    def fingerprint(self) -> str:
        """Return a digest of file names, boxes and settings."""
        coco = self.coco
        content: list[Any] = [coco.names, coco.ids, coco.boxes.tolist(), coco.categories.tolist()]
        points = None if coco.points is None else coco.points.tolist()
        content += [coco.starts.tolist(), points, coco.mirror]
        ids = ["ids"] if self.by_id else []
        return digest_json([content, self.labels, self.how.describe(), *ids])


def open_coco(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    framing: Framing | None = None,
    train: tuple[str, str] | None = None,
    test: tuple[str, str] | None = None,
    orient: bool = False,
    by_id: bool = False,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[BoxSamples]:
    """Read a data set's COCO files; no image is decoded yet.

    Categories of both splits are numbered from 1 in rising order of their ids, and ``classes`` has
    their names in that order.

    Args:
        folder: Holds ``annotations/*train*.json`` with the images under ``train*/`` or
            ``images/train*/``, or ``train/_annotations.coco.json`` (any ``train/*.json`` that is
            the only one) beside its images or ``train/images/``; val or test likewise.
        preprocessing: The network's input.
        framing: What of an image is shown; None: all of it, 25-100% in training.
        train: The training split's (JSON file, folder of images), relative to the folder, where
            they lie elsewhere.
        test: The same of the test split.
        orient: Turn images as their EXIF entry says.
        by_id: Labels are the category ids as they stand in the files, not numbered anew.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"``, or ``"skip"`` samples that cannot be read or whose file is missing.

    Raises:
        PrunerError: A file or folder is missing or not as expected; the splits give one category id
            different names.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    places = {"train": _find_split(root, _TRAIN, train), "test": _find_split(root, _HELD_OUT, test)}
    if places["train"] is None:
        raise _miss_train(root)
    found = {name: (read_coco(place[0]), place[1]) for name, place in places.items() if place}
    names_of = _join_categories([coco for coco, _ in found.values()])
    how = DenseImages(preprocessing, framing or Framing(), orient)
    notes: list[str] = []
    splits = {}
    for name, (coco, images) in found.items():
        files, missing = _find_files(coco, [images, images / "images", root])
        notes += coco.notes
        if missing:
            text = f"{len(missing)} of {len(files)} images of {coco.path} are not under {images}"
            if on_error != "skip":
                raise PrunerError(f"{text} (first {coco.names[missing[0]]})")
            notes.append(f"{text} and are left out (first {coco.names[missing[0]]})")
            coco, files = _leave_out(coco, files, missing)
        splits[name] = BoxSamples(tuple(files), coco, tuple(names_of), how, by_id)
    return SampleData(
        str(root), splits["train"], splits.get("test"), tuple(names_of.values()), tuple(notes),
        workers, on_error,
    )  # fmt: skip


def _miss_train(root: Path) -> PrunerError:
    inside = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
    return PrunerError(f"{root}: no JSON file of a train split; {_EXPECTED}, found {inside}")


def _find_split(
    root: Path, names: Sequence[str], place: tuple[str, str] | None
) -> tuple[Path, Path] | None:
    """Return the JSON file and the folder of images of a split, where there is one."""
    if place is not None:
        file, images = root / place[0], root / place[1]
        if not file.is_file() or not images.is_dir():
            raise PrunerError(f"{file if images.is_dir() else images}: there is none")
        return file, images
    for name in names:
        beside = [p for folder in _find_like(root, name) for p in sorted(folder.glob("*.json"))]
        if len(beside) == 1:
            return beside[0], beside[0].parent
        files = _choose_file(root, name)
        folders = [*_find_like(root, name), *_find_like(root / "images", name), root / "images"]
        if files is not None:
            return files, next((p for p in folders if p.is_dir()), root)
    return None


def _choose_file(root: Path, name: str) -> Path | None:
    """Return the one JSON file of a split; COCO's captions and keypoints stand beside boxes."""
    found = [p for place in (root / "annotations", root) for p in sorted(place.glob("*.json"))]
    found = [p for p in found if name in p.stem.casefold()]
    boxes = [p for p in found if p.name.casefold().startswith("instances")]
    some = boxes or found
    if len(some) > 1:
        listed = ", ".join(str(p.relative_to(root)) for p in some[:4])
        raise PrunerError(
            f"{root}: several JSON files of {name}: {listed}; say which in the data's settings"
        )
    return some[0] if some else None


def _find_like(root: Path, name: str) -> list[Path]:
    """Return the folders train, train2017, ... of a split's name."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.casefold().startswith(name))


def _join_categories(files: Sequence[CocoFile]) -> dict[int, str]:
    """Return category ids and names of all splits, in rising order of ids."""
    joined: dict[int, str] = {}
    for coco in files:
        for category, name in coco.names_of.items():
            if joined.setdefault(category, name) != name:
                raise PrunerError(
                    f"{coco.path}: category {category} is {name!r}, but {joined[category]!r} in "
                    f"{files[0].path}"
                )
    return dict(sorted(joined.items()))


def _find_files(coco: CocoFile, folders: Sequence[Path]) -> tuple[list[Path], list[int]]:
    """Return the file of every image, in the first folder that has it, and rows without one."""
    files, missing = [], []
    for row, name in enumerate(coco.names):
        found = next((p for folder in folders if (p := folder / name).is_file()), None)
        if found is None:
            missing.append(row)
        files.append(found or folders[0] / name)
    return files, missing


def _leave_out(
    coco: CocoFile, files: Sequence[Path], missing: Sequence[int]
) -> tuple[CocoFile, list[Path]]:
    """Return a file's content without some of its images."""
    keep = sorted({*range(len(files))} - {*missing})
    counts = np.diff(coco.starts)
    rows = np.repeat(np.isin(np.arange(len(files)), keep), counts)
    left = replace(
        coco,
        names=tuple(coco.names[row] for row in keep),
        ids=tuple(coco.ids[row] for row in keep),
        sizes=coco.sizes[keep],
        boxes=coco.boxes[rows],
        categories=coco.categories[rows],
        starts=np.concatenate([[0], np.cumsum(counts[keep])]).astype(np.int64),
        points=None if coco.points is None else coco.points[rows],
    )
    return left, [files[row] for row in keep]
