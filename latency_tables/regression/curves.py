"""A latency curve for every specification, and how it grows with the network around the layer."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..errors import MissingSpecError
from ..spec import LayerSpec
from .basis import Floats
from .fit import Curve, ScaledCurve, fit_curve
from .normalize import NormalizedReadings, Sample
from .size_effect import SizeExponents, fit_size_exponents

_FLOOR_SHARE = 1e-3  # of the median probe: below it, a layer's own relative error is of no weight


class LayerCurves:
    """Curves of all specifications, each fitted when it is first asked for.

    They are for a network of ``typical_ms``, the median total. In one of total ``T`` a layer takes
    ``(T / typical_ms) ** exponent`` times as long.
    """

    def __init__(self, normalized: NormalizedReadings) -> None:
        self._totals = np.array(normalized.total_ms)
        self.typical_ms = float(np.median(self._totals)) if len(self._totals) else 1.0
        self._floor_ms = _FLOOR_SHARE * self.typical_ms
        self.by_spec: dict[LayerSpec, list[Sample]] = {}
        for sample in normalized.samples:
            self.by_spec.setdefault(sample.spec, []).append(sample)
        self._curves: dict[LayerSpec, Curve | ScaledCurve] = {}

    @cached_property
    def _exponents(self) -> SizeExponents:
        samples = {
            spec: (*_to_arrays(own), self._totals[[s.reading for s in own]])
            for spec, own in self.by_spec.items()
        }
        return fit_size_exponents(samples, floor_ms=self._floor_ms)

    def knows(self, spec: LayerSpec) -> bool:
        """Tell whether there are samples of a specification, or of its plain one."""
        return spec in self.by_spec or spec.plain in self.by_spec

    def exponent(self, spec: LayerSpec) -> float:
        """Return a specification's network-size exponent."""
        # A layer that is read in part has the exponent of the plain one, as it has its curve.
        return self._exponents.find(spec.plain if spec.plain in self.by_spec else spec)

    def predict(self, spec: LayerSpec, sizes: Floats, network_ms: float | None) -> Floats:
        """Predict milliseconds [n] at widths [n, k], in a network of this total or of the median.

        Raises:
            MissingSpecError: There is no sample of ``spec``.
        """
        size = 1.0 if network_ms is None else network_ms / self.typical_ms
        return self._find_curve(spec).predict(sizes) * size ** self.exponent(spec)

    def _find_curve(self, spec: LayerSpec) -> Curve | ScaledCurve:
        if spec not in self._curves:
            if not self.knows(spec):
                raise MissingSpecError(self._describe_missing(spec))
            if spec.plain != spec and spec.plain in self.by_spec:
                own = self.by_spec.get(spec, [])
                self._curves[spec] = self._scale(self._find_curve(spec.plain), own)
            else:
                sizes, typical = self._normalize(self.by_spec[spec])
                self._curves[spec] = fit_curve(sizes, typical, floor_ms=self._floor_ms)
        return self._curves[spec]

    def _scale(self, plain: Curve | ScaledCurve, samples: Sequence[Sample]) -> ScaledCurve:
        """Fit one factor: few probes have a layer whose result is read in part."""
        if not samples:
            return ScaledCurve(plain, 1.0)
        sizes, typical = self._normalize(samples)
        return ScaledCurve(plain, float(np.median(typical / plain.predict(sizes))))

    def _normalize(self, samples: Sequence[Sample]) -> tuple[Floats, Floats]:
        """Return widths, and what samples of one layer would take in a network of the median."""
        totals = np.array([self._totals[s.reading] for s in samples])
        sizes, ms = _to_arrays(samples)
        return sizes, ms * (totals / self.typical_ms) ** -self.exponent(samples[0].spec)

    def _describe_missing(self, spec: LayerSpec) -> str:
        near = sorted(self.by_spec, key=lambda other: _rank_distance(spec, other))[:3]
        known = "; ".join(str(other) for other in near) or "none: the table is empty"
        return (
            f"the latency table has no sample of {spec}. Nearest that it has: {known}. "
            "Measure the network that holds it on this device: msprune measure MODEL --out RUN"
        )


def _to_arrays(samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """Return widths [n, k] and milliseconds [n]."""
    sizes = np.array([s.sizes for s in samples], dtype=np.float64)
    return sizes, np.array([s.latency_ms for s in samples])


def _rank_distance(target: LayerSpec, other: LayerSpec) -> tuple[int, int]:
    operator = (target.operator != other.operator) * 2 + (target.sizes != other.sizes)
    differing = len(set(target.attributes) ^ set(other.attributes))
    return operator, differing + (target.fused != other.fused)
