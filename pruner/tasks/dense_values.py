"""Losses and metrics of maps of values, over the pixels that are known.

All take values found and wanted [n, K, H, W] and which of them are known, bool of that shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from .metric import MeanMetric, Metric, MetricKind, RootMeanMetric
from .total import Total

LossName = Literal["l1", "l2", "huber", "log_l1", "silog"]
MetricName = Literal[
    "abs_rel", "rmse", "mae", "log_rmse", "delta1", "delta2", "delta3", "psnr", "epe"
]
POSITIVE = frozenset({"log_l1", "silog", "abs_rel", "log_rmse", "delta1", "delta2", "delta3"})
"""Those that look at ratios: values must be above 0."""
_WITH_UNIT = ("rmse", "mae", "epe")
_LEAST = 1e-6
Align = Callable[[Any, Any], tuple[Tensor, Tensor, Tensor]]
"""From outputs and targets to what is found, what is wanted, and what is known."""


def _sum_known(values: Tensor, known: Tensor) -> Total:
    kept = torch.where(known, values, torch.zeros((), dtype=values.dtype, device=values.device))
    return Total(kept.sum(), max(int(known.sum()), 1))


def _log_ratio(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Return log(found / wanted), 0 where nothing is known."""
    safe = torch.where(known, wanted, torch.ones_like(wanted)).clamp_min(_LEAST)
    ratio = found.clamp_min(_LEAST).log() - safe.log()
    return torch.where(known, ratio, torch.zeros_like(ratio))


def _l1(found: Tensor, wanted: Tensor, known: Tensor) -> Total:
    return _sum_known((found - wanted).abs(), known)


def _l2(found: Tensor, wanted: Tensor, known: Tensor) -> Total:
    return _sum_known((found - wanted).square(), known)


def _huber(found: Tensor, wanted: Tensor, known: Tensor) -> Total:
    return _sum_known(torch.nn.functional.huber_loss(found, wanted, reduction="none"), known)


def _log_l1(found: Tensor, wanted: Tensor, known: Tensor) -> Total:
    return _sum_known(_log_ratio(found, wanted, known).abs(), known)


def _silog(found: Tensor, wanted: Tensor, known: Tensor) -> Total:
    """Sum mean(d^2) - mean(d)^2 / 2 of d = log(found / wanted) over images (Eigen et al. 2014)."""
    d, count = _log_ratio(found, wanted, known), known.flatten(1).sum(1).clamp_min(1)
    squares, mean = d.square().flatten(1).sum(1) / count, d.flatten(1).sum(1) / count
    return Total((squares - mean.square() / 2).sum(), len(d))


LOSSES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Total]] = {
    "l1": _l1, "l2": _l2, "huber": _huber, "log_l1": _log_l1, "silog": _silog,
}  # fmt: skip
"""Name -> the sum and the number of what it is a mean over."""


def _abs_rel(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    return (found[known] - wanted[known]).abs() / wanted[known]


def _mae(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    return (found[known] - wanted[known]).abs()


def _square(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    return (found[known] - wanted[known]).square()


def _log_square(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    return _log_ratio(found, wanted, known)[known].square()


def _delta(power: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def measure(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
        bound = power * torch.log(torch.tensor(1.25))
        return _log_ratio(found, wanted, known)[known].abs() < bound

    return measure


def _epe(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    return (found - wanted).norm(dim=1)[known.all(1)]


def _psnr(peak: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def measure(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
        """Return the decibels of every image that has known pixels, 100 at most."""
        count = known.flatten(1).sum(1)
        squares = torch.where(known, found - wanted, torch.zeros_like(found)).square()
        mean = squares.flatten(1).sum(1)[count > 0] / count[count > 0]
        return (10 * torch.log10(peak**2 / mean.clamp_min(1e-20 * peak**2))).clamp_max(100)

    return measure


METRICS: Mapping[str, tuple[MetricKind, type[MeanMetric] | type[RootMeanMetric]]] = {
    "abs_rel": (MetricKind("relative error", "%", False), MeanMetric),
    "rmse": (MetricKind("RMSE", "", False), RootMeanMetric),
    "mae": (MetricKind("mean error", "", False), MeanMetric),
    "log_rmse": (MetricKind("log RMSE", "", False), RootMeanMetric),
    "delta1": (MetricKind("within 1.25"), MeanMetric),
    "delta2": (MetricKind("within 1.25^2"), MeanMetric),
    "delta3": (MetricKind("within 1.25^3"), MeanMetric),
    "psnr": (MetricKind("PSNR", "dB"), MeanMetric),
    "epe": (MetricKind("end-point error", "px", False), MeanMetric),
}
"""Name -> what it means, and how it is averaged over pixels (of psnr: images)."""


def make_metric(name: str, align: Align, unit: str, peak: float) -> Metric:
    """Return an accumulator of a metric.

    Args:
        name: One of `METRICS`.
        align: Makes values of outputs and targets.
        unit: Of the values, for those that have one.
        peak: Greatest value, for psnr.
    """
    measures: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "abs_rel": _abs_rel, "rmse": _square, "mae": _mae, "log_rmse": _log_square,
        "delta1": _delta(1), "delta2": _delta(2), "delta3": _delta(3), "psnr": _psnr(peak),
        "epe": _epe,
    }  # fmt: skip
    kind, mean = METRICS[name]
    if unit and name in _WITH_UNIT:
        kind = replace(kind, unit=unit)
    measure = measures[name]
    return mean(kind, lambda outputs, targets: measure(*align(outputs, targets)))
