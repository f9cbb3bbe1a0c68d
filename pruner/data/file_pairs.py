"""Pairs files of images with files of their targets, by their names without endings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import PrunerError
from .decoding import find_readable_endings
from .folders import exists, find_folder, find_splits, list_folders, walk_files


@dataclass(frozen=True)
class FilePairs:
    """Images and their targets of one split, in the order of the images' paths.

    Attributes:
        root: The data set's folder.
        images: Files.
        targets: Files, in the same order.
    """

    root: Path
    images: tuple[Path, ...]
    targets: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def list_names(self) -> list[tuple[str, str]]:
        """Return the paths of every pair below the root, for a fingerprint."""
        return [
            (str(image.relative_to(self.root)), str(target.relative_to(self.root)))
            for image, target in zip(self.images, self.targets, strict=True)
        ]


def find_pairs(
    root: Path, names: tuple[Sequence[str], Sequence[str]], suffix: str = "",
    extra: frozenset[str] = frozenset(),
) -> tuple[dict[str, FilePairs], list[str]]:  # fmt: skip
    """Find the pairs of every split, and what has no partner, in words.

    Both layouts are read: ``train/images`` with ``train/masks``, and ``images/train`` with
    ``masks/train``.

    Args:
        root: Holds the splits.
        names: Names of the folders of images and of targets, either one of several.
        suffix: What a target's name has behind its image's, ahead of the ending.
        extra: Endings of targets that Pillow does not read, with the dot.

    Raises:
        PrunerError: Folders are missing, no names are equal, or two images have the same name.
    """
    (first, *_), (second, *_) = names
    expected = f"expected train/{first} and train/{second}, val/{first} and val/{second}"
    pairs, notes = {}, []
    for split, (images, targets) in _find_folders(root, names, expected).items():
        endings = find_readable_endings()
        left = _list_stems(images, endings, "")
        right = _list_stems(targets, endings | extra, suffix)
        both = sorted(left.keys() & right.keys(), key=lambda stem: left[stem])
        if not both:
            raise PrunerError(
                f"{root}: no file under {images.relative_to(root)} has the name of one under "
                f"{targets.relative_to(root)} (first {_show_first(left, root)} and "
                f"{_show_first(right, root)}); names without endings are to be equal"
            )
        pairs[split] = FilePairs(
            root, tuple(left[stem] for stem in both), tuple(right[stem] for stem in both)
        )
        for some, others, what in ((left, right, second), (right, left, first)):
            if alone := sorted(some.keys() - others.keys()):
                notes.append(
                    f"{len(alone)} files of {split} have none in {what} and are not read "
                    f"(first {some[alone[0]].relative_to(root)})"
                )
    return pairs, notes


def _find_folders(
    root: Path, names: tuple[Sequence[str], Sequence[str]], expected: str
) -> dict[str, tuple[Path, Path]]:
    """Return the folders of images and targets of train, and of test if there is one."""
    if not root.is_dir():
        raise PrunerError(f"{root}: no such data folder")
    images, targets = (find_folder(list_folders(root), some) for some in names)
    if images is not None and targets is not None:
        left, right = find_splits(images, expected), find_splits(targets, expected)
        return {split: (left[split], right[split]) for split in left if split in right}
    found = {}
    for split, folder in find_splits(root, expected).items():
        left_right = [find_folder(list_folders(folder), some) for some in names]
        for place, some in zip(left_right, names, strict=True):
            if place is None:
                raise PrunerError(f"{folder}: no folder {' or '.join(some)}; {expected}")
        found[split] = (left_right[0], left_right[1])
    return found  # type: ignore[return-value]


def _list_stems(folder: Path, endings: frozenset[str], suffix: str) -> dict[str, Path]:
    """Return the files below a folder by their paths in it, without endings and the suffix."""
    found: dict[str, Path] = {}
    for path in sorted(Path(p) for p in walk_files(str(folder), set())):
        if path.suffix.lower() not in endings or not exists(path):
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if not stem.endswith(suffix):
            continue
        stem = stem.removesuffix(suffix)
        if stem in found:
            raise PrunerError(
                f"{folder}: {found[stem].name} and {path.name} have one name; keep one of them"
            )
        found[stem] = path
    return found


def _show_first(stems: dict[str, Path], root: Path) -> str:
    return str(next(iter(stems.values())).relative_to(root)) if stems else "nothing"
