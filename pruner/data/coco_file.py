"""CocoFile: images, boxes and categories of one COCO JSON file, checked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PrunerError

_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class CocoFile:
    """Images in the file's order, and their boxes in one array.

    Attributes:
        path: The JSON file.
        names: File names of the images, as they stand in it.
        ids: Of the images.
        sizes: Height and width of every image, int64 [n, 2]; 0 where the file does not say.
        boxes: float32 [k, 4]: left, top, right, bottom in pixels, clipped to the image.
        categories: Ids of the boxes' categories, int64 [k].
        starts: int64 [n + 1]: the boxes of image i are starts[i] to starts[i + 1].
        names_of: Category id to name, in rising order of ids.
        notes: What was dropped, in words.
        points: float32 [k, K, 3]: x, y and visibility (0: not labelled) of every box's keypoints,
            or None where no category names keypoints.
        mirror: Which keypoint takes the place of each in a mirrored image: left is right there.
    """

    path: Path
    names: tuple[str, ...]
    ids: tuple[int, ...]
    sizes: np.ndarray
    boxes: np.ndarray
    categories: np.ndarray
    starts: np.ndarray
    names_of: Mapping[int, str]
    notes: tuple[str, ...]
    points: np.ndarray | None = None
    mirror: tuple[int, ...] = ()


def read_coco(path: Path) -> CocoFile:
    """Read boxes, as corners; crowds are left out, and boxes with no area within their image.

    Raises:
        PrunerError: The file is not COCO's, or an annotation names an image or a category that is
            not there.
    """
    content = _read_json(path)
    images, categories = content["images"], content["categories"]
    names_of = {
        _get(one, "id", int, path, "category"): str(_get(one, "name", str, path, "category"))
        for one in categories
    }
    ids = [_get(one, "id", int, path, "image") for one in images]
    if len(set(ids)) != len(ids) or len(names_of) != len(categories):
        raise PrunerError(f"{path}: two images or two categories have one id")
    names = tuple(_get(one, "file_name", str, path, "image") for one in images)
    sizes = np.array(
        [(one.get("height") or 0, one.get("width") or 0) for one in images], np.int64
    ).reshape(-1, 2)
    rows = {image: row for row, image in enumerate(ids)}
    counted = [one for one in content["annotations"] if not one.get("iscrowd")]
    owners, labels, boxes = _read_boxes(counted, rows, names_of, path)
    boxes, clipped = _clip(boxes, sizes[owners])
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    counts = {
        "crowd regions are ignored": len(content["annotations"]) - len(counted),
        "boxes have no area within their image and are dropped": int((~keep).sum()),
        "boxes reach beyond their image and are clipped": int((clipped & keep).sum()),
    }
    notes = tuple(f"{path.name}: {count} {what}" for what, count in counts.items() if count)
    order = np.flatnonzero(keep)[np.argsort(owners[keep], kind="stable")]
    starts = np.searchsorted(owners[order], np.arange(len(ids) + 1))
    mirror = find_mirror(categories, path)
    points = _read_points(counted, len(mirror), path)[order] if mirror else None
    return CocoFile(
        path, names, tuple(ids), sizes, boxes[order].astype(np.float32), labels[order], starts,
        dict(sorted(names_of.items())), notes, points, mirror,
    )  # fmt: skip


def find_mirror(categories: Sequence[Mapping[str, Any]], path: Path) -> tuple[int, ...]:
    """Return which keypoint takes the place of each in a mirrored image; () without keypoints.

    Categories list the names of their keypoints; those that differ in left and right alone change
    places.

    Raises:
        PrunerError: Two categories have different keypoints.
    """
    named = [tuple(map(str, one["keypoints"])) for one in categories if one.get("keypoints")]
    if not named:
        return ()
    if len({*named}) > 1:
        raise PrunerError(f"{path}: categories with different keypoints; one list is expected")
    turned = {"left": "right", "right": "left"}
    names = named[0]
    others = [re.sub("left|right", lambda side: turned[side[0]], name.lower()) for name in names]
    places = {name.lower(): k for k, name in enumerate(names)}
    return tuple(places.get(other, k) for k, other in enumerate(others))


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PrunerError(f"{path}: no readable JSON ({error})") from error
    found = sorted(content) if isinstance(content, dict) else type(content).__name__
    for key in _KEYS:
        listed = content.get(key) if isinstance(content, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise PrunerError(
                f"{path}: expected COCO's lists {', '.join(_KEYS)}, of objects; found {found}"
            )
    return content


def _read_boxes(
    annotations: Sequence[Mapping[str, Any]], rows: Mapping[int, int], names_of: Mapping[int, str],
    path: Path,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return the rows of images [k], the categories [k] and float64 boxes [k, 4] as corners."""
    owners, labels, boxes = [], [], []
    for number, one in enumerate(annotations):
        image: Any = one.get("image_id")
        category: Any = one.get("category_id")
        box: Any = one.get("bbox")
        where = f"{path}: annotation {one.get('id', number)}"
        if not isinstance(image, int) or image not in rows:
            raise PrunerError(f"{where} is of image {image!r}, which is not in the file")
        if not isinstance(category, int) or category not in names_of:
            raise PrunerError(f"{where} has category {category!r}, which is not in the file")
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise PrunerError(f"{where}: expected bbox [left, top, width, height], got {box!r}")
        owners.append(rows[image])
        labels.append(category)
        boxes.append(box)
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return np.array(owners, np.int64), np.array(labels, np.int64), corners


def _read_points(annotations: Sequence[Mapping[str, Any]], count: int, path: Path) -> np.ndarray:
    """Return float32 [k, count, 3]: the keypoints of every annotation, zeros where it has none."""
    found = np.zeros((len(annotations), count, 3), np.float32)
    for row, one in enumerate(annotations):
        points: Any = one.get("keypoints")
        if points is None:
            continue
        if not (isinstance(points, list) and len(points) == 3 * count
                and all(map(_is_number, points))):  # fmt: skip
            raise PrunerError(
                f"{path}: annotation {one.get('id', row)}: expected {count} keypoints of x, y and "
                f"visibility, got {str(points)[:60]}"
            )
        found[row] = np.reshape(points, (count, 3))
    return found


def _clip(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [k, 4] within images of known sizes [k, 2], and which were changed by a pixel.

    Annotations are rounded, so that less is no fault.
    """
    height, width = np.where(sizes > 0, sizes, np.inf).T
    limits = np.stack([width, height, width, height], 1)
    within = np.clip(boxes, 0, limits)
    return within, (np.abs(within - boxes) >= 1).any(1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _get(one: Mapping[str, Any], key: str, kind: type, path: Path, what: str) -> Any:
    value = one.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PrunerError(
            f"{path}: no {key} that is a{'n int' if kind is int else ' text'} in the {what} "
            f"{json.dumps(one)[:80]}"
        )
    return value
