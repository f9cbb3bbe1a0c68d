"""COCO's mean average precision, by the torchmetrics library."""

import importlib.util
from typing import Any

from torch import Tensor

from ..errors import PrunerError
from .metric import Metric, MetricKind

MAP = MetricKind("mAP")
_BACKENDS = ("faster_coco_eval", "pycocotools")
Found = list[dict[str, Tensor]]


class MeanPrecision(Metric):
    """The mean of average precisions over classes and overlaps of 50, 55, ... 95%.

    Boxes are kept until it is computed, so that those of several processes can be put together.
    """

    kind = MAP

    def __init__(self) -> None:
        """Find the libraries; PrunerError where one is missing."""
        found = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
        if not found or importlib.util.find_spec("torchmetrics") is None:
            raise PrunerError(
                'mAP needs torchmetrics and pycocotools: pip install "msprune[tasks]"'
            )
        self.backend = found[0]
        self.seen: list[tuple[Found, Found]] = []

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch's detections and true boxes."""
        keys = ("boxes", "labels")
        truth = [{name: one[name].cpu() for name in keys} for one in targets]
        self.seen.append(
            ([{k: d[k] for k in (*keys, "scores")} for d in outputs["detections"]], truth)
        )

    def compute(self) -> float:
        """Compute it; PrunerError where no image has a box."""
        if not any(len(one["labels"]) for _, truth in self.seen for one in truth):
            raise PrunerError("mAP says nothing: none of the test images has a box")
        from torchmetrics.detection import MeanAveragePrecision

        library: Any = MeanAveragePrecision(backend=self.backend)  # type: ignore[arg-type]
        library.warn_on_many_detections = False
        for found, truth in self.seen:
            library.update(found, truth)
        return float(library.compute()["map"])

    def state(self) -> Any:
        """Return all boxes."""
        return self.seen

    def merge(self, state: Any) -> None:
        """Add another's boxes."""
        self.seen += state
