"""Aligns selections of the largest (topk, sort), where rounding decides among near equals."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..graph import operator_arguments, operator_name

_OPERATORS = ("topk", "sort", "argsort")
_EQUAL = {torch.float16: 1e-2, torch.bfloat16: 1e-1, torch.float32: 1e-4, torch.float64: 1e-9}
"""Relative to the largest value, what counts as equal."""


def find_selections(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that put values in order, or the largest of them first."""
    return [n for n in graph.nodes if operator_name(n) in _OPERATORS and n.op == "call_function"]


def record_selections(module: fx.GraphModule, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
    """Return the indices that each selection chooses on flat inputs, by node name."""
    interpreter = AlignedInterpreter(module, {})
    interpreter.run(*inputs, enable_io_processing=False)
    return interpreter.chosen


class AlignedInterpreter(fx.Interpreter):
    """Runs a network that selects what another run selected, where that is as good.

    Two runs that differ by rounding may put near equals in another order, after which their
    results are not comparable. Where the values selected differ by more, the network's own choice
    stands.

    Attributes:
        choices: Indices by the name of the selection's node.
        chosen: The indices that the network's selections chose by themselves in this run.
    """

    def __init__(
        self, module: nn.Module, choices: Mapping[str, Tensor], graph: fx.Graph | None = None
    ) -> None:
        super().__init__(module, graph=graph)
        self.choices = choices
        self.chosen: dict[str, Tensor] = {}
        self.selections = {node.name for node in find_selections(self.graph)}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; note and align its result where it is a selection."""
        result = super().run_node(n)
        if n.name not in self.selections:
            return result
        self.chosen[n.name] = _get_indices(result)
        if n.name not in self.choices:
            return result
        x: Tensor = self.env[n.all_input_nodes[0]]
        return _align(result, x, operator_arguments(n)["dim"], self.choices[n.name])


def _align(result: Any, x: Tensor, dim: int, other: Tensor) -> Any:
    """Return a selection with other indices where their values are as good, else as it is."""
    index = _get_indices(result)
    if index.shape != other.shape or int(other.max()) >= x.shape[dim]:
        return result
    own, theirs = (x.gather(dim, i) for i in (index, other))
    if not bool(((own - theirs).abs() <= float(x.abs().max()) * _EQUAL.get(x.dtype, 0.0)).all()):
        return result
    return other if isinstance(result, Tensor) else (theirs, other)


def _get_indices(result: Any) -> Tensor:
    """Return the indices in the result of a selection."""
    indices: Tensor = result if isinstance(result, Tensor) else result[1]
    return indices
