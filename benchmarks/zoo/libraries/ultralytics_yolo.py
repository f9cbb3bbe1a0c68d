"""Ultralytics' networks from their YAML, one a family or task."""

from functools import partial

from . import Example, Networks

NAMES = (
    "yolov3-tiny", "yolov5n", "yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-cls",
    "yolov8n-obb", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "rtdetr-l",
)  # fmt: skip


def list_networks() -> Networks:
    """List them."""
    return {name: partial(build, name) for name in NAMES}


def build(name: str) -> Example:
    """Build the module within ``YOLO(name)``, at a size that every stride divides."""
    import torch
    from ultralytics.nn import tasks

    kinds = {
        "seg": tasks.SegmentationModel,
        "pose": tasks.PoseModel,
        "cls": tasks.ClassificationModel,
        "obb": tasks.OBBModel,
    }
    kind = tasks.RTDETRDetectionModel if "rtdetr" in name else tasks.DetectionModel
    model = kinds.get(name.rpartition("-")[2], kind)(f"{name}.yaml", verbose=False)
    return model, (torch.randn(2, 3, 160, 160),), {}
