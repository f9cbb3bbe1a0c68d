"""OutcomeCheck: a repair is undone as far as it leads away from the dense network."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from ..graph import StagedExecution, nest_results
from ..tasks import NetworkCalls

SHARES = (0.5, 0.25, 0.125, 0.0)
"""How much of the way from the cut weights to the fitted ones is tried where all of it is bad."""
_ROUNDING = 1e-6


class OutcomeCheck:
    """The divergence of a cut network's outputs from the dense one's, before fits and after.

    Every fit is the best of its layer; what the layers behind make of it may be worse all the same,
    of few samples above all.
    """

    def __init__(self, module: fx.GraphModule, dense: fx.GraphModule, calls: NetworkCalls) -> None:
        """Measure a cut network before anything is fitted."""
        self.module, self.calls, self.dense_module = module, calls, dense
        self.before = self._measure()
        self.state = {
            name: tensor.detach().clone()
            for name, tensor in module.state_dict(keep_vars=True).items()
            if tensor.is_floating_point()
        }

    def settle(self) -> tuple[float, float, float] | None:
        """Keep the fits, or as much of them as does not lead away from the dense network.

        Returns:
            The share of the way that was kept, and the divergences before and after all of it;
            None where all was kept, or outputs cannot be compared.
        """
        if self.before is None:
            return None
        after = self._measure()
        if after is None or self._is_good(after):
            return None
        own = self.module.state_dict()
        fitted = {name: own[name].detach().clone() for name in self.state}
        for share in SHARES:
            for name, old in self.state.items():
                own[name].copy_(old + share * (fitted[name] - old) if share else old)
            found = self._measure() if share else self.before
            if found is not None and self._is_good(found):
                return share, self.before, after
        raise AssertionError

    def _is_good(self, found: float) -> bool:
        assert self.before is not None
        return found <= self.before * (1 + _ROUNDING) + 1e-12 or self.before != self.before

    @torch.no_grad()
    def _measure(self) -> float | None:
        """Return the mean divergence over the calibration samples; None where there is none."""
        results = [self._run(one) for one in (self.module, self.dense_module)]
        total, count = 0.0, 0
        try:
            for ours, theirs in zip(*map(self.calls.complete, results), strict=True):
                part = self.calls.task.divergence(_to_double(ours), _to_double(theirs))
                total, count = total + float(part.value), count + part.count
        except PrunerError:  # outputs of unequal sizes, or without floating numbers
            return None
        return total / count if count else None

    def _run(self, module: fx.GraphModule) -> Iterator[Any]:
        """Yield the results of all calls."""
        nested = nest_results(module)
        names = {leaf.name for leaf in pytree.tree_leaves(nested) if isinstance(leaf, fx.Node)}

        def fill_in(values: Mapping[str, Any]) -> Any:
            return pytree.tree_map_only(fx.Node, lambda node: values[node.name], nested)

        return map(fill_in, StagedExecution(module, self.calls.arguments, 0).values(names))


def _to_double(outputs: Any) -> Any:
    return pytree.tree_map_only(
        Tensor, lambda x: x.double() if x.is_floating_point() else x, outputs
    )
