"""Gives random operators fixed values, so that networks of other widths can be compared."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ..graph import operator_arguments, operator_name, target_name

_VALUE = 0.25
"""Likely of every distribution, and no root of what is usually made of it."""
_DRAWN = {
    "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal",
    "normal_functional", "poisson", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm", "rrelu_with_noise", "rrelu_with_noise_functional", "_standard_gamma",
    "uniform",
}  # fmt: skip


def steady_noise(graph: fx.Graph) -> AbstractContextManager[Any]:
    """Return a context in which random operators give fixed values, if a graph has any."""
    return SteadyNoise() if any(map(_is_random, graph.nodes)) else nullcontext()


def _is_random(node: fx.Node) -> bool:
    """Return whether an operator draws numbers: also a dropout that is not only for training."""
    name = operator_name(node)
    return name in _DRAWN or ("dropout" in name and operator_arguments(node).get("train") is True)


class SteadyNoise(TorchDispatchMode):
    """Puts one value in the place of whatever is drawn, be it all of a dropout's mask.

    What has tensors of means and deviations, or of probabilities, still depends on them.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call an operator; one that draws numbers gives fixed ones."""
        result = func(*args, **(kwargs or {}))
        name = target_name(func).removesuffix("_")
        if name not in _DRAWN:
            return result
        tensors = [x for x in args if isinstance(x, Tensor) and x is not result]
        if name == "normal" and tensors:
            mean, deviation = args[:2]
            return result.copy_(mean + _VALUE * deviation)
        if name == "bernoulli" and tensors:
            return result.copy_(tensors[-1] > 0.5)
        if name == "randperm":
            return result.copy_(result.sort().values)
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                leaf.fill_(_VALUE if leaf.is_floating_point() else 0)
        return result
