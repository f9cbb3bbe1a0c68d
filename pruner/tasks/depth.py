"""Depth: a value, or several, for every pixel: depth, flow, restored and enlarged images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, StrictInt, StrictStr
from torch import Tensor
from torch.nn.functional import interpolate

from ..data import Framing, TaskData, open_maps
from ..errors import PrunerError
from ..utils import NUMBER, entry, settings_class
from .base import Task
from .data_settings import DenseSettings
from .dense_values import LOSSES, METRICS, POSITIVE, LossName, MetricName, make_metric
from .divergence import check_alike, compare_values, describe_shapes
from .metric import GroupMetric, Metric
from .pick import pick_output
from .records import to_record
from .request import TaskRequest
from .total import Total

Answers = Literal["values", "logarithms", "inverses"]


def _read_names(value: object) -> object:
    return (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    )


@settings_class
class DepthSettings(DenseSettings):
    """What a task of maps of values may be told."""

    loss: Annotated[LossName, entry(f"one of {', '.join(LOSSES)}")] = "l1"
    metric: Annotated[
        tuple[MetricName, ...],
        entry(f"one or more of {', '.join(METRICS)}, the main one first"),
        BeforeValidator(_read_names, json_schema_input_type=list[str] | str),
    ] = ("abs_rel",)
    answers: Annotated[
        Answers, entry("what the network returns: values, their logarithms, or inverses")
    ] = "values"
    output: Annotated[
        StrictStr | StrictInt | None,
        entry("which of the network's outputs, by name or number (default: the only one)"),
    ] = None
    unit: Annotated[StrictStr, entry("of the values, shown with them, such as m")] = ""
    peak: Annotated[float, entry("greatest value, for psnr", gt=0), NUMBER] = 1.0
    scale: Annotated[
        float | None, entry("values in files times this are the map's (default: 0 to 1)"), NUMBER
    ] = None
    invalid: Annotated[
        float | None, entry("the value in files of pixels of which nothing is known"), NUMBER
    ] = None
    interpolation: Annotated[
        Literal["bilinear", "nearest"], entry("of maps: bilinear over known values, or nearest")
    ] = "bilinear"
    upscale: Annotated[
        StrictInt, entry("pixels of a map along each side of an image's pixel", ge=1)
    ] = 1


class Depth(Task):
    """Maps float [n, K, H, W] of values, and where they are known: a dict of map and valid.

    The network returns [n, K, h, w], or [n, h, w] where K is 1; of another size than the maps it is
    resized to theirs. What is not known counts nowhere.
    """

    name = "depth"

    def __init__(
        self,
        data: TaskData | None = None,
        *,
        loss: LossName = "l1",
        metric: tuple[MetricName, ...] = ("abs_rel",),
        answers: Answers = "values",
        output: str | int | None = None,
        unit: str = "",
        peak: float = 1.0,
    ) -> None:
        """Take batches of (inputs, maps), and what `DepthSettings` says of the rest."""
        # Refused here as in a configuration.
        DepthSettings(loss=loss, metric=metric, answers=answers, output=output, peak=peak)
        self.data, self.loss_name, self.metrics = data, loss, metric
        self.answers, self.output, self.unit, self.peak = answers, output, unit, peak

    @classmethod
    def open(cls, request: TaskRequest) -> Depth:
        """Open images with maps (see `pruner.data.open_maps`)."""
        settings = request.read_settings(DepthSettings)
        task = cls(
            loss=settings.loss, metric=settings.metric, answers=settings.answers,
            output=settings.output, unit=settings.unit, peak=settings.peak,
        )  # fmt: skip
        task.read(request.run())  # refuses a network of another kind

        def open_folder(path: str) -> TaskData:
            return open_maps(
                path, preprocessing, framing=Framing(settings.fit), scale=settings.scale,
                invalid=settings.invalid, interpolation=settings.interpolation,
                upscale=settings.upscale, suffix=settings.suffix, workers=settings.workers,
                on_error=settings.on_error,
            )  # fmt: skip

        preprocessing = request.make_preprocessing(settings.mean, settings.std)
        return task.with_data(request.open_data(open_folder, preprocessing, **settings.saved))

    def settings(self) -> Mapping[str, Any]:
        """Return loss, metrics and what the network answers with."""
        return {
            "loss": self.loss_name, "metric": list(self.metrics), "answers": self.answers,
            "output": self.output, "unit": self.unit, "peak": self.peak,
        }  # fmt: skip

    def read(self, results: Any) -> Tensor:
        """Take the map, as the network answers: float [n, K, h, w]."""
        found = to_record(results) if self.output is None else pick_output(results, self.output)
        if isinstance(found, Mapping):
            maps = [v for v in found.values() if isinstance(v, Tensor) and v.ndim in (3, 4)]
            found = maps[0] if len(maps) == 1 else found
        if isinstance(found, list | tuple) and len(found) == 1:
            found = found[0]
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            raise PrunerError(
                f"expected one map [n, channels, h, w], got {describe_shapes(results)} from the "
                "network; the task's setting output says which of several, by name or number"
            )
        return found[:, None] if found.ndim == 3 else found

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean loss over the values that are known."""
        return self.total_loss(outputs, targets).mean

    def total_loss(self, outputs: Any, targets: Any) -> Total:
        """Return the sum of the loss, and how many values (of silog: images) it is of."""
        found, wanted, known = self._align(outputs, targets)
        return LOSSES[self.loss_name](found, wanted, known)

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return the squared error relative to the dense network's values, a mean over images.

        Logarithms are compared as they are: their difference is a relative error already.
        """
        if self.answers != "logarithms":
            return compare_values(outputs, dense)
        check_alike(outputs, dense)
        return Total(len(dense) * (outputs - dense).square().mean(), len(dense))

    def metric(self) -> Metric:
        """Return the metrics, the main one first."""
        found = [make_metric(name, self._align, self.unit, self.peak) for name in self.metrics]
        return found[0] if len(found) == 1 else GroupMetric(found)

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse targets that are no maps and where they are known, or not of the outputs' kind."""
        shape = describe_shapes(outputs)
        if not isinstance(targets, Mapping) or not {"map", "valid"} <= {*targets}:
            raise PrunerError(
                f"targets {describe_shapes(targets)} are no maps: expected a dict of map, float "
                f"[{len(outputs)}, {outputs.shape[1]}, H, W], and valid, bool [.., 1, H, W]"
            )
        wanted, valid = targets["map"], targets["valid"]
        maps = isinstance(wanted, Tensor) and wanted.is_floating_point() and wanted.ndim == 4
        if not maps or wanted.shape[:2] != outputs.shape[:2]:
            raise PrunerError(
                f"maps {describe_shapes(wanted)} do not fit the network's {shape}: expected "
                f"numbers [{len(outputs)}, {outputs.shape[1]}, H, W]"
            )
        if not isinstance(valid, Tensor) or valid.shape != (len(wanted), 1, *wanted.shape[2:]):
            raise PrunerError(
                f"valid is {describe_shapes(valid)}: expected bool [{len(wanted)}, 1, "
                f"{wanted.shape[2]}, {wanted.shape[3]}], as the maps {describe_shapes(wanted)}"
            )
        values = wanted[valid.bool().expand_as(wanted)]
        if not values.isfinite().all():
            raise PrunerError("maps hold NaN or infinity where valid says that they are known")
        positive = {self.loss_name, *self.metrics} & POSITIVE
        least = values.min() if len(values) else torch.ones(())
        if least <= 0 and (positive or self.answers != "values"):
            raise PrunerError(
                f"maps reach {float(least):g}, but {', '.join(sorted(positive)) or self.answers} "
                "needs values above 0: say which value means nothing is known (task entry invalid)"
            )

    def _align(self, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return values found and wanted [n, K, H, W], and which are known, bool of that shape."""
        wanted = targets["map"]
        found = outputs
        if found.shape[-2:] != wanted.shape[-2:]:
            found = interpolate(found, wanted.shape[-2:], mode="bilinear", align_corners=False)
        if self.answers == "logarithms":
            found = found.exp()
        elif self.answers == "inverses":
            found = 1 / found.clamp_min(1e-6)
        known = targets["valid"].bool().expand_as(wanted)
        # NaN where nothing is known would reach the gradients of what is.
        wanted = torch.where(known, wanted, torch.zeros_like(wanted)).to(found.dtype)
        return found, wanted, known
