"""How much a layer's time depends on the size of the network that it is in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..spec import LayerSpec
from .basis import Floats
from .fit import fit_trend
from .huber import huber_weights

_STEPS = 3
_REWEIGHTINGS = 3
_SPARE = 5  # samples beyond the columns of the regression
_LEAST_POWER = 1e-3  # of what is left of the totals' logarithms, squared and added up
_SPREAD = 0.15  # of the exponents of a network's layers
_LOWEST, _HIGHEST = 0.0, 0.8


@dataclass(frozen=True)
class SizeExponents:
    """Exponents: in a network of total ``T`` a layer takes ``T ** exponent`` times as long.

    A layer of the same widths is slower in a larger network, which leaves less of the caches to
    it: those that mostly read weights by more than those that compute.
    ``pooled`` is that of layers with too few samples to tell.
    """

    by_spec: Mapping[LayerSpec, float]
    pooled: float = 0.0

    def find(self, spec: LayerSpec) -> float:
        """Return the exponent of a specification, also of one that was not measured."""
        return self.by_spec.get(spec, self.pooled)


def fit_size_exponents(
    samples: Mapping[LayerSpec, tuple[Floats, Floats, Floats]], *, floor_ms: float
) -> SizeExponents:
    """Fit each specification's exponent by weighted regression and partial pooling.

    A layer's own widths explain most of its time, and totals go with them: of both, what the
    features of the widths' trend explain is taken out, and the rest compared. Narrow layers feel
    the network around them far more than wide ones do; what a network takes is made of the wide
    ones, so samples weigh as much as they add to the square of its error. Each exponent is moved
    towards the mean of all by as much as it is unsure.
    ``samples`` are widths [n, k], milliseconds [n] and their networks' totals [n].
    """
    found = {}
    for spec, (sizes, ms, totals) in samples.items():
        estimate = _estimate_exponent(sizes, ms, totals, floor_ms)
        if estimate is not None:
            found[spec] = (*estimate, float(ms.sum()))
    if not found:
        return SizeExponents({})
    values, errors, shares = np.array(list(found.values())).T
    pooled = float(np.average(values, weights=shares / (errors**2 + _SPREAD**2)))
    # Few or unsure layers say little: no effect is the first guess.
    sure = 1 / np.sum(1 / (errors**2 + _SPREAD**2))
    pooled = float(np.clip(pooled * _SPREAD**2 / (_SPREAD**2 + sure), _LOWEST, _HIGHEST))
    trust = _SPREAD**2 / (_SPREAD**2 + errors**2)
    exponents = np.clip(trust * values + (1 - trust) * pooled, _LOWEST, _HIGHEST)
    return SizeExponents(dict(zip(found, exponents.tolist(), strict=True)), pooled)


def _estimate_exponent(
    sizes: Floats, ms: Floats, totals: Floats, floor_ms: float
) -> tuple[float, float] | None:
    """Estimate the exponent and its standard error; ``None`` where nothing can be told.

    Of ``ms = trend(sizes) * totals ** exponent``, by Gauss and Newton's method.
    """
    if np.any(ms <= 0):
        return None
    exponent, error = 0.0, np.inf
    size = np.log(totals / np.median(totals))
    base_weight = ms**2 / np.mean(ms**2)
    basis = None
    for _ in range(_STEPS):
        typical = ms * np.exp(-exponent * size)
        # Which basis is the best takes long to find, and hardly changes with the exponent.
        basis, features, trend = fit_trend(sizes, typical, floor_ms=floor_ms, basis=basis)
        if np.any(trend <= 0):
            return None
        matrix = features / trend[:, None]
        spare = len(ms) - int(np.linalg.matrix_rank(matrix)) - 1
        if spare < _SPARE:
            return None
        both = np.stack([size, np.log(typical / trend)], axis=1)
        weight = base_weight
        step = 0.0
        for _ in range(_REWEIGHTINGS):
            root = np.sqrt(weight)[:, None]
            # What the widths explain is taken out of both (Frisch, Waugh and Lovell).
            x, y = (both - matrix @ np.linalg.lstsq(matrix * root, both * root, rcond=None)[0]).T
            power = float(np.dot(weight, x**2))
            if power < _LEAST_POWER:
                return None
            step = float(np.dot(weight, x * y)) / power
            residual = y - step * x
            spread = 1.4826 * float(np.median(np.abs(residual)))
            error = spread * float(np.sqrt(len(ms) / spare * np.dot(weight**2, x**2))) / power
            weight = base_weight * huber_weights(residual)
        exponent = float(np.clip(exponent + step, -_HIGHEST, 2 * _HIGHEST))
    return exponent, error
