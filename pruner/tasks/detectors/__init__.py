"""How detectors of different libraries are called and read, one kind a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import nn

from ...errors import PrunerError
from .base import Boxes, Detector
from .image_lists import ImageListDetector, OneStageDetector
from .queries import QueryDetector
from .two_stages import TwoStageDetector
from .yolo import GridDetector

__all__ = ["Boxes", "Detector", "ImageListDetector", "find_detector"]


def find_detector(
    model: nn.Module | None,
    compared: Sequence[str] = (),
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> Detector:
    """Return how a model is called as a detector, by its class.

    Args:
        model: torchvision's SSD, RetinaNet, FCOS or R-CNN, an object detector of transformers, or a
            ``DetectionModel`` of ultralytics.
        compared: Of any other model that is called as torchvision's are: submodules whose outputs
            are compared.
        mean: Of images' channels, for transformers' models.
        std: By which the difference is divided.

    Raises:
        PrunerError: It is none of these.
    """
    if compared:
        return ImageListDetector(compared)
    found = _find_torchvision(model)
    if found is not None:
        return found
    if isinstance(model, _find_classes("ultralytics.nn.tasks", "DetectionModel")):
        return GridDetector(model)
    if isinstance(model, _find_transformers(model)):
        return QueryDetector(model, mean, std)
    raise PrunerError(
        f"{type(model).__name__} is no detector that is known: torchvision's, transformers' "
        "object detectors or ultralytics'. Where it is called as torchvision's are (a list of "
        "images; losses in training, else boxes), say what of it to compare: "
        "task: {name: detection, compare: [head]}"
    )


def _find_torchvision(model: nn.Module | None) -> Detector | None:
    package = "torchvision.models.detection"
    if isinstance(model, _find_classes(f"{package}.ssd", "SSD")):
        return OneStageDetector(0)
    if isinstance(model, _find_classes(f"{package}.retinanet", "RetinaNet")):
        return OneStageDetector(None)
    if isinstance(model, _find_classes(f"{package}.fcos", "FCOS")):
        return OneStageDetector(None)
    if isinstance(model, _find_classes(f"{package}.generalized_rcnn", "GeneralizedRCNN")):
        return TwoStageDetector()
    return None


def _find_transformers(model: nn.Module | None) -> tuple[type, ...]:
    """Return transformers' object detectors of a model's kind of configuration."""
    library = sys.modules.get("transformers.models.auto.modeling_auto")
    known: Any = getattr(library, "MODEL_FOR_OBJECT_DETECTION_MAPPING", {})
    kinds = type(getattr(model, "config", None)).__mro__
    return tuple(known[kind] for kind in kinds if kind in known)


def _find_classes(module: str, *names: str) -> tuple[type, ...]:
    """Return classes of a module that is imported; none where nothing can be of them."""
    found = sys.modules.get(module)
    return tuple(getattr(found, name) for name in names if hasattr(found, name))
