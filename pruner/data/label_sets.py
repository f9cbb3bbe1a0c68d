"""Images with any number of labels each, for multi-label classification."""

import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import PrunerError
from ..utils import digest_json
from .class_masks import read_class_names
from .coco import BoxSamples, open_coco
from .decoding import decode_image
from .label_tables import LabelTable, read_label_table
from .preprocessing import Preprocessing, show_image
from .sample_data import SampleData
from .samples import Sample, Samples
from .text_tables import ENDINGS, find_tables, list_present

_STEMS = ("labels", "metadata", "tags", "annotations", "_classes")
_NAMES = "classes.txt"


@dataclass(frozen=True)
class LabelSetSamples(Samples):
    """Pairs (float32 [C, H, W], float32 [classes]): an image, and which classes it shows.

    A class is 1 where it is there, 0 where not, and -1 where nobody knows, which does not count.

    Attributes:
        root: The data set's folder.
        files: Images.
        marks: int8 [images, classes].
        preprocessing: Of images, as in image folders.
    """

    root: Path
    files: tuple[Path, ...]
    marks: np.ndarray
    preprocessing: Preprocessing
    moves = False

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read an image and its classes."""
        image = show_image(decode_image(self.files[row]), self.preprocessing, rng)
        return image, torch.from_numpy(self.marks[row].astype(np.float32))

    def list_files(self) -> Sequence[Path]:
        """Return the images."""
        return self.files

    def fingerprint(self) -> str:
        """Return a digest of file names, labels and settings."""
        names = [os.path.relpath(path, self.root) for path in self.files]
        return digest_json([names, self.marks.tolist(), asdict(self.preprocessing)])


def open_label_sets(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing,
    *,
    outputs: int | None = None,
    separator: str | None = None,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[LabelSetSamples]:
    """Read the tables of a folder of images with labels, or its COCO files; nothing is decoded yet.

    ``train/labels.csv`` (or ``.tsv``, ``.jsonl``; also metadata, tags) with paths of images
    relative to it, ``val|test/...`` likewise, or ``train.csv`` and ``val.csv`` beside the images;
    see `pruner.data.label_tables` for its forms. Without a table, COCO's JSON: the categories of
    an image's boxes. A file ``classes.txt`` beside them names the classes in the order of the
    network's outputs; without, it is that of the table's columns, of COCO's category ids, or else
    the alphabet's.

    Args:
        folder: Holds the splits.
        preprocessing: The network's input.
        outputs: The network's number of classes, to be checked against the data's.
        separator: Between names in a cell; None: ``|``, ``;`` or ``,``.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"``, or ``"skip"`` samples that cannot be read or whose file is missing.

    Raises:
        PrunerError: There is neither table nor COCO file, an image is missing, or the number of
            classes is not the network's.
    """
    root, notes = Path(folder), list[str]()
    if _has_table(root):
        splits, classes = _read_tables(root, preprocessing, separator, on_error == "skip", notes)
    else:
        splits, classes = _read_categories(root, preprocessing, on_error)
    if outputs is not None and len(classes) != outputs:
        raise PrunerError(
            f"{root}: {len(classes)} classes ({', '.join(classes[:5])}...), but the network has "
            f"{outputs} outputs; give the data that it was trained on, or name all its classes in "
            f"{_NAMES}, one a line"
        )
    return SampleData(
        str(root), splits["train"], splits.get("test"), classes, tuple(notes), workers, on_error
    )


def _read_tables(
    root: Path, preprocessing: Preprocessing, separator: str | None, skip: bool, notes: list[str]
) -> tuple[dict[str, LabelSetSamples], tuple[str, ...]]:
    """Return the splits that have tables, and the classes."""
    tables = {
        name: read_label_table(path, separator) for name, path in find_tables(root, _STEMS).items()
    }
    classes = read_class_names(root / _NAMES) or _list_classes(tables)
    splits = {
        name: _make_samples(root, table, classes, preprocessing, skip, notes)
        for name, table in tables.items()
    }
    return splits, classes


def _read_categories(
    root: Path, preprocessing: Preprocessing, on_error: str
) -> tuple[dict[str, LabelSetSamples], tuple[str, ...]]:
    """Return the splits that have COCO files, and their categories."""
    boxes = open_coco(root, preprocessing, on_error=on_error)
    found = {"train": boxes.training, "test": boxes.testing}
    splits = {
        name: LabelSetSamples(root, one.files, _mark_categories(one), preprocessing)
        for name, one in found.items()
        if one is not None
    }
    return splits, boxes.classes


def _has_table(root: Path) -> bool:
    """Whether a folder or one in it has a table, or nothing that COCO's files would have."""
    places = (root, *_list_inside(root))

    def has(ending: str) -> bool:
        return any(True for place in places for _ in place.glob(f"*{ending}"))

    return any(map(has, ENDINGS)) or not has(".json")


def _list_inside(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def _list_classes(tables: dict[str, LabelTable]) -> tuple[str, ...]:
    """Return the classes of all splits: those of columns in their order, others sorted."""
    columns = tables["train"].columns
    named = {name for table in tables.values() for marks in table.marks for name in marks}
    return columns if columns and named <= {*columns} else tuple(sorted(named))


def _make_samples(
    root: Path, table: LabelTable, classes: tuple[str, ...], preprocessing: Preprocessing,
    skip: bool, notes: list[str],
) -> LabelSetSamples:  # fmt: skip
    files = [table.path.parent / name for name in table.images]
    keep = list_present(files, table.path, skip, notes)
    places = {name: k for k, name in enumerate(classes)}
    marks = np.zeros((len(files), len(classes)), np.int8)
    for row, found in enumerate(table.marks):
        for name, mark in found.items():
            if name not in places:
                raise PrunerError(f"{table.path}: {name!r} is none of the classes in {_NAMES}")
            marks[row, places[name]] = mark
    return LabelSetSamples(root, tuple(files[k] for k in keep), marks[keep], preprocessing)


def _mark_categories(samples: BoxSamples) -> np.ndarray:
    """Return int8 [images, classes]: which categories the boxes of every image have."""
    coco = samples.coco
    marks = np.zeros((len(samples), len(samples.labels)), np.int8)
    rows = np.repeat(np.arange(len(samples)), np.diff(coco.starts))
    marks[rows, np.searchsorted(samples.labels, coco.categories)] = 1
    return marks
