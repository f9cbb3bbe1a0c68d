"""Detection: boxes and classes of the objects in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import StrictStr
from torch import Tensor, nn

from ..data import Framing, Preprocessing, TaskData, open_coco
from ..errors import PrunerError
from ..graph import evaluation_mode, find_device, move_to_device
from ..utils import entry, settings_class
from .base import Task
from .data_settings import FileSettings
from .detection_metric import MeanPrecision
from .detection_targets import check_boxes, prepare_target
from .detectors import Detector, find_detector
from .metric import Metric
from .request import TaskRequest
from .total import Total


@settings_class
class DetectionSettings(FileSettings):
    """What a detection task may be told."""

    compare: Annotated[
        tuple[StrictStr, ...],
        entry("submodules whose outputs are compared, of a detector of no known library"),
    ] = ()
    labels: Annotated[
        Literal["order", "ids"] | None,
        entry("classes are categories in the order of their ids, or the ids themselves"),
    ] = None
    fit: Annotated[Literal["stretch", "letterbox"], entry("how images meet the input")] = "stretch"
    orient: Annotated[bool, entry("turn images as their EXIF entry says")] = False


class Detection(Task):
    """Boxes and labels of images; targets are a list of dicts, one an image.

    A dict has ``boxes`` float32 [k, 4] (left, top, right, bottom in pixels of the input) and
    ``labels`` int64 [k] from 1 on; k may be 0. The losses are the detector's own, by name. The
    divergence is that of all predictions before any is chosen (see `compare_predictions`); the
    metric is COCO's mean average precision.

    Outputs are ``predictions`` where no targets are given, ``losses`` and ``predictions`` where
    they are and gradients are recorded, and else ``detections``.
    """

    name = "detection"

    def __init__(
        self,
        data: TaskData | None = None,
        detector: Detector | None = None,
        labels: Literal["order", "ids"] = "order",
        compare: Sequence[str] = (),
    ) -> None:
        """Take batches of (images, targets), and how the network is called.

        Args:
            data: Images [n, 3, H, W], or a list of them, and boxes.
            detector: See `find_detector`; None: by the class of the network that is called.
            labels: ``"order"``: label 1 is the network's first class; ``"ids"``: labels are the
                network's own numbers.
            compare: Submodules whose outputs are compared, of a detector of no known library.
        """
        self.data, self.detector = data, detector
        self.labels, self.compare = labels, tuple(compare)
        self.classes: int | None = None

    @classmethod
    def open(cls, request: TaskRequest) -> Detection:
        """Open COCO's files for a detector (see `pruner.data.open_coco`)."""
        settings = request.read_settings(DetectionSettings)
        detector = find_detector(request.model, settings.compare, request.mean, request.std)
        assert request.model is not None
        size = _read_size(request)
        images = 0.5 * torch.ones(2, 3, *size)
        task = cls(None, detector, settings.labels or "order", settings.compare)
        with torch.no_grad(), evaluation_mode(request.model):
            predictions = task.forward(request.model, images)["predictions"]
        task.classes = detector.count_classes(predictions)

        def open_folder(path: str) -> TaskData:
            prepared = Preprocessing(size, detector.mean, detector.std)
            data = open_coco(
                path, prepared, framing=Framing(settings.fit), by_id=settings.labels == "ids",
                orient=settings.orient, workers=settings.workers, on_error=settings.on_error,
            )  # fmt: skip
            _check_classes(path, data, task.classes or 0, settings.labels)
            return data

        return task.with_data(request.open_data(open_folder))

    def settings(self) -> Mapping[str, Any]:
        """Return what labels mean and what is compared."""
        return {"labels": self.labels, "compare": list(self.compare)}

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> dict[str, Any]:
        """Return predictions, losses or detections; see the class."""
        detector = self._find_detector(module)
        images = [*move_to_device(inputs, find_device(module))]
        if targets is None:
            return {"predictions": detector.predict(module, images)}
        if self.classes is None:
            with torch.no_grad(), evaluation_mode(module):
                self.classes = detector.count_classes(detector.predict(module, images))
        check_boxes(targets, self._list_labels(detector), [image.shape[-2:] for image in images])
        shift = detector.first_label - 1 if self.labels == "order" else 0
        if torch.is_grad_enabled():
            own = [prepare_target(one, images[0].device, shift) for one in targets]
            losses, predictions = detector.find_losses(module, images, own)
            return {"losses": losses, "predictions": predictions}
        found = [one | {"labels": one["labels"] - shift} for one in detector.detect(module, images)]
        return {"detections": found}

    def complete(
        self, results: Sequence[Any], inputs: Any, module: nn.Module | None = None,
        arguments: Sequence[tuple[Any, ...]] = (),
    ) -> Any:  # fmt: skip
        """Return the outputs of given results; PrunerError without the network that they are of."""
        if module is None:
            raise PrunerError(
                "task detection calls the network in a way of its own: it cannot share a call with "
                "other tasks (task several); give it alone"
            )
        return super().complete(results, inputs, module, arguments)

    def loss(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the detector's own losses."""
        return dict(outputs["losses"])

    def total_loss(self, outputs: Any, targets: Any) -> Total | None:
        """Return None: detectors compute losses in place of detections."""
        return None

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return how far all predictions are from the dense network's; scores are not softened.

        At a temperature above 1 the thousands of places where nothing is would be all that counts.
        """
        detector = self._find_detector(None)
        return detector.compare(outputs["predictions"], dense["predictions"])

    def metric(self) -> Metric:
        """Return COCO's mean average precision."""
        return MeanPrecision()

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse targets that are no boxes of these classes."""
        check_boxes(targets, self._list_labels(self._find_detector(None)))

    def _find_detector(self, module: nn.Module | None) -> Detector:
        """Return how networks are called, found out by the first that is."""
        self.detector = self.detector or find_detector(module, self.compare)
        return self.detector

    def _list_labels(self, detector: Detector) -> range:
        """Return the labels that targets may have; none where that is not known."""
        first = detector.first_label if self.labels == "ids" else 1
        return range(first, first + (self.classes or 0))


def _read_size(request: TaskRequest) -> tuple[int, int]:
    """Return height and width of the images that the network takes."""
    shape = request.input_shape
    if len(shape) != 4 or shape[1] != 3:
        raise PrunerError(
            f"detection needs images of batch x 3 x height x width; {request.network} takes "
            f"{'x'.join(map(str, shape))}"
        )
    return shape[2], shape[3]


def _check_classes(path: str, data: Any, count: int, labels: str | None) -> None:
    """Refuse data whose categories are not as many as the network's classes, unless it was said."""
    known = len(data.classes)
    if not count or labels is not None and known <= count:
        return
    if known > count or labels is None and known < count:
        raise PrunerError(
            f"{path} has {known} categories ({', '.join(data.classes[:3])}...), but the network "
            f"tells {count} classes apart" + (
                "" if known > count else
                ": say what its classes are, task: {name: detection, labels: ids} (the categories' "
                "ids) or labels: order (the first is the category of the smallest id)"
            )
        )  # fmt: skip
