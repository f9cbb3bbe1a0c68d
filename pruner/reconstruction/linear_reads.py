"""LinearRead: one place where a network reads a value by a weight, linearly."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from ..graph import (
    Convolution,
    find_batch_norm_after,
    get_layer,
    only_user,
    operator_arguments,
    operator_name,
)
from ..structure import Network
from .linear_forms import Contraction, LinearForm, Patches
from .recurrent_reads import RECURRENT, RecurrentCall, RecurrentStep
from .weight_views import ParameterView, WeightViews

Shapes = Mapping[str, Sequence[int]]
"""Name of a node -> the shape of its result in the dense network."""


@dataclass(frozen=True)
class LinearRead:
    """An operator that is linear in a weight, or a step of a recurrent one.

    Attributes:
        node: The operator.
        name: Of the layer, or of the parameter where no layer is called.
        form: How value, weight and result are rows and matrices.
        weight: What it reads by.
        bias: What it adds; None without any.
        source: The node whose value is read.
        result: The node that has the result: the operator, or the sum of it and a bias.
        step: The product of a recurrent layer that this is; its value and result are none of the
            graph's.
    """

    node: fx.Node
    name: str
    form: LinearForm
    weight: ParameterView
    bias: ParameterView | None
    source: fx.Node
    result: fx.Node
    step: RecurrentStep | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What it has in common with other calls of the same layer."""
        return (*self.weight.key, self.form)

    @property
    def is_whole(self) -> bool:
        """Whether weight and bias are whole parameters, and one matrix over one axis of a value."""
        views = [view for view in (self.weight, self.bias) if view is not None]
        plain = self.form.groups == 1 and self.form.sums_one_axis
        return plain and all(view.is_whole for view in views)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the nodes whose values tell what is read."""
        return (self.source.name,) if self.step is None else self.step.call.needs

    def read_value(self, values: Mapping[str, Any]) -> Tensor:
        """Return what is read, given the values of `needs`."""
        if self.step is None:
            value = values[self.source.name]
            assert isinstance(value, Tensor)
            return value
        return self.step.read_value(values)

    def compute(self, values: Mapping[str, Any]) -> Tensor:
        """Return a recurrent step's result, of the network that this read is of."""
        bias = None if self.bias is None else self.bias.tensor
        return nn.functional.linear(self.read_value(values), self.weight.tensor, bias)


def get_shapes(net: Network) -> Shapes:
    """Return the shapes of the dense network's values."""
    return {
        node.name: node.meta["shape"]
        for node in net.program.graph.nodes
        if isinstance(node.meta.get("shape"), tuple)
    }


def find_norm(module: nn.Module, read: LinearRead, shapes: Shapes) -> fx.Node | None:
    """Return the call of the batch norm that scales the outputs of a read, right behind it."""
    rank = len(shapes.get(read.result.name, ()))
    if read.step is not None or not read.form.takes_norm(rank):
        return None
    return find_batch_norm_after(module, read.result)


def find_reads(
    module: fx.GraphModule, views: WeightViews, shapes: Shapes
) -> Iterator[tuple[fx.Node, list[LinearRead]]]:
    """Yield the operators of a graph that read by weights of their own, with their reads."""
    for node in module.graph.nodes:
        layer = get_layer(module, node)
        if isinstance(layer, nn.RNNBase) or operator_name(node) in RECURRENT:
            call = RecurrentCall.find(module, node, layer, views)
            if call is not None:
                yield node, list(_read_recurrently(call))
        elif layer is not None:
            if (read := _read_by_layer(node, layer, views, shapes)) is not None:
                yield node, [read]
        elif node.op == "call_function":
            match = _MATCHERS.get(operator_name(node))
            if match is not None and (read := match(node, views, shapes)) is not None:
                yield node, [read]


def _read_recurrently(call: RecurrentCall) -> Iterator[LinearRead]:
    for step in call.steps:
        form = Contraction("bti", "oi", "bto")
        yield LinearRead(
            call.node, call.name, form, step.weight, step.bias, call.inputs[0], call.node, step
        )  # fmt: skip


def _read_by_layer(
    node: fx.Node, layer: nn.Module, views: WeightViews, shapes: Shapes
) -> LinearRead | None:
    """Return what a convolution or linear layer reads."""
    weight, bias = (views.find_of_layer(node, leaf) for leaf in ("weight", "bias"))
    source = node.args[0]
    form: LinearForm | None = None
    if weight is None or not isinstance(source, fx.Node):
        return None
    if isinstance(layer, nn.Linear):
        form = _contract_last(len(shapes.get(source.name, shapes.get(node.name, ()))))
    elif isinstance(layer, Convolution) and layer.padding_mode == "zeros":
        form = _describe_convolution(layer)
    if form is None:
        return None
    return LinearRead(node, str(node.target), form, weight, bias, source, node)


def _contract_last(rank: int) -> Contraction | None:
    """Return the form of a linear layer on a value of so many axes."""
    rows = string.ascii_uppercase[: rank - 1]
    return Contraction(f"{rows}i", "oi", f"{rows}o") if rank else None


def _describe_convolution(layer: Any) -> Patches:
    """Return the form of a convolution of any rank."""
    if isinstance(layer.padding, str):
        same = layer.padding == "same"
        reach = zip(layer.dilation, layer.kernel_size, strict=True)
        padding = tuple(d * (k - 1) // 2 if same else 0 for d, k in reach)
    else:
        padding = tuple(layer.padding)
    return Patches(
        layer.groups, tuple(layer.kernel_size), tuple(layer.stride), padding,
        tuple(layer.dilation), bool(layer.transposed),
    )  # fmt: skip


def _match_linear(node: fx.Node, views: WeightViews, shapes: Shapes) -> LinearRead | None:
    """Match a linear operator whose weight is a part of a parameter (fused projections)."""
    given = operator_arguments(node)
    weight, source = views.find(given["weight"]), given["input"]
    form = _contract_last(len(shapes.get(source.name, ())))
    if weight is None or weight.tensor.ndim != 2 or form is None:
        return None
    bias = views.find(given["bias"])
    if bias is None and given["bias"] is not None:
        return None
    return LinearRead(node, weight.name, form, weight, bias, source, node)


def _match_product(node: fx.Node, views: WeightViews, shapes: Shapes) -> LinearRead | None:
    """Match a product of matrices one of which is a parameter."""
    given = list(operator_arguments(node).values())
    added = operator_name(node) == "addmm"
    first, left, right = given[:3] if added else (None, *given[:2])
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return None
    terms = _letter_product(shapes.get(left.name, ()), shapes.get(right.name, ()))
    bias = views.find(first)
    if added and (bias is None or bias.tensor.ndim != 1 or list(given[3:5]) != [1, 1]):
        return None
    return _contract(node, (left, right), terms, bias, views)


def _letter_product(left: Sequence[int], right: Sequence[int]) -> tuple[str, str, str] | None:
    """Return the letters of a product of matrices, its leading axes broadcast."""
    if not left or not right or max(len(left), len(right)) > 9:
        return None
    terms = [
        "mk"[-min(len(left), 2) :],
        "kn"[: min(len(right), 2)],
        ("m" if len(left) > 1 else "") + ("n" if len(right) > 1 else ""),
    ]
    for place in range(3, max(len(left), len(right)) + 1):
        sizes = [shape[-place] if place <= len(shape) else 0 for shape in (left, right)]
        letter = string.ascii_uppercase[place]
        for side, size in enumerate(sizes):
            if size:  # an axis of one, repeated along the other's, is an axis of its own
                alone = size == 1 and sizes[1 - side] > 1
                terms[side] = (letter.lower() if alone else letter) + terms[side]
        terms[2] = letter + terms[2]
    return terms[0], terms[1], terms[2]


def _match_einsum(node: fx.Node, views: WeightViews, shapes: Shapes) -> LinearRead | None:
    """Match an einsum of a value and a parameter."""
    equation, operands = node.args[:2]
    assert isinstance(equation, str) and isinstance(operands, list | tuple)
    left, arrow, result = equation.replace(" ", "").partition("->")
    names, found = left.split(","), list(operands)
    if len(names) != 2 or not arrow or not all(isinstance(one, fx.Node) for one in found):
        return None
    ranks = [len(shapes.get(one.name, ())) for one in found]  # type: ignore[union-attr]
    unnamed = [rank - len(term.replace("...", "")) for term, rank in zip(names, ranks)]
    unused = [x for x in string.ascii_letters if x not in equation][: max(0, *unnamed)]

    def spell(term: str, count: int) -> str:
        return term.replace("...", "".join(unused[len(unused) - count :]))

    terms = (*(spell(one, max(n, 0)) for one, n in zip(names, unnamed)), spell(result, len(unused)))
    return _contract(node, (found[0], found[1]), terms, None, views)  # type: ignore[arg-type]


def _contract(
    node: fx.Node, pair: tuple[fx.Node, fx.Node], terms: tuple[str, ...] | None,
    bias: ParameterView | None, views: WeightViews,
) -> LinearRead | None:  # fmt: skip
    """Return the read of an einsum one of whose operands is a parameter, the other a value."""
    found = [views.find(one) for one in pair]
    place = next((k for k in (1, 0) if found[k] is not None and found[1 - k] is None), None)
    if place is None or terms is None:
        return None
    weight = found[place]
    assert weight is not None
    if len(terms[place]) != weight.tensor.ndim:
        return None
    form = Contraction.build(terms[1 - place], terms[place], terms[2], weight.tensor.shape)
    if form is None:
        return None
    result = node
    if bias is None and (added := _find_added_bias(node, form, views)) is not None:
        result, bias = added
    return LinearRead(node, weight.name, form, weight, bias, pair[1 - place], result)


def _find_added_bias(
    node: fx.Node, form: Contraction, views: WeightViews
) -> tuple[fx.Node, ParameterView] | None:
    """Return the sum of a result and a parameter [outputs] right behind it, and the parameter."""
    user = only_user(node)
    if user is None or operator_name(user) != "add" or user.kwargs:
        return None
    found = [views.find(one) for one in user.args[:2]]
    bias = next((one for one in found if one is not None), None)
    outputs = form.channel_axes == (len(form.result) - 1,)
    if bias is None or not outputs or bias.tensor.ndim != 1:
        return None
    return user, bias


_MATCHERS: dict[str, Callable[[fx.Node, WeightViews, Shapes], LinearRead | None]] = {
    "linear": _match_linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "addmm"), _match_product),
    "einsum": _match_einsum,
}
