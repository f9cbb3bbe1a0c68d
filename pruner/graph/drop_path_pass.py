"""Stochastic depth in a graph of training, as one operator whatever code computes it."""

from typing import Any

from torch import fx

from .ops import operator_arguments, operator_name, producer_of, remove_dead_nodes
from .stochastic import drop_path


def mark_drop_paths(graph: fx.Graph) -> None:
    """Make products with one random number a sample (or a batch) drop_path operators, in place."""
    for node in list(graph.nodes):
        if node.op != "call_function" or operator_name(node) != "mul":
            continue
        left, right = _first_two(node)
        if isinstance(left, fx.Node) and isinstance(right, fx.Node):
            _replace_product(graph, node, left, right) or _replace_product(graph, node, right, left)
    remove_dead_nodes(graph)


def _replace_product(graph: fx.Graph, product: fx.Node, x: fx.Node, mask: fx.Node) -> bool:
    """Replace the product of x and a mask if it is stochastic depth; return whether it is."""
    shape: tuple[int, ...] = x.meta.get("shape") or ()
    random: tuple[int, ...] = mask.meta.get("shape") or ()
    law = _read_bernoulli(mask)
    if law is None or not shape or len(random) != len(shape) or any(n != 1 for n in random[1:]):
        return False
    keep, scale = law
    if random[0] not in (1, shape[0]):
        return False
    end = product
    reader = next(iter(product.users)) if len(product.users) == 1 else None
    if _is_close(scale, 1) and _divides_by(x, keep):  # x / keep * mask
        x, scale = producer_of(x), 1 / keep
    elif _is_close(scale, 1) and reader is not None and _divides_by(reader, keep):
        end, scale = reader, 1 / keep
    if not (_is_close(scale, 1) or _is_close(scale * keep, 1)):
        return False
    mode = "row" if random[0] == shape[0] and shape[0] > 1 else "batch"
    with graph.inserting_after(end):
        made = graph.call_function(drop_path, (x, 1 - keep, mode, _is_close(scale * keep, 1)))
    made.meta.update(end.meta)
    end.replace_all_uses_with(made)
    return True


def _read_bernoulli(node: fx.Node) -> tuple[float, float] | None:
    """Read (keep, scale) of a tensor that holds scale with probability keep, else zero."""
    name = operator_name(node)
    first, second = _first_two(node)
    if name == "bernoulli":
        keep = second if len(node.args) > 1 else _fill_value(first)
        return (float(keep), 1.0) if isinstance(keep, int | float) and 0 < keep <= 1 else None
    if not isinstance(first, fx.Node):
        return None
    if name in ("div", "mul") and isinstance(second, int | float):
        law, factor = _read_bernoulli(first), second if name == "mul" else 1 / second
        return (law[0], law[1] * factor) if law else None
    if name in ("to", "_to_copy", "type_as", "clone", "contiguous", "view", "reshape", "expand"):
        return _read_bernoulli(first)
    if name == "floor":  # floor(keep + u), u uniform
        terms = _first_two(first) if operator_name(first) == "add" else ()
        keep = next((term for term in terms if isinstance(term, int | float)), None)
        if keep is not None and 0 < keep <= 1 and any(map(_is_uniform, terms)):
            return float(keep), 1.0
    if name in ("lt", "le", "gt", "ge") and _is_uniform(first) and isinstance(second, int | float):
        keep = second if name in ("lt", "le") else 1 - second
        return (float(keep), 1.0) if 0 < keep <= 1 else None
    return None


def _first_two(node: fx.Node) -> tuple[Any, Any]:
    """Return a node's first two arguments."""
    padded: tuple[Any, ...] = (*node.args, None, None)
    return padded[0], padded[1]


def _fill_value(node: Any) -> Any:
    """Return the number that a tensor is full of, None for any other tensor."""
    if isinstance(node, fx.Node) and operator_name(node) in ("full", "full_like", "new_full"):
        return operator_arguments(node)["fill_value"]
    return None


def _is_uniform(node: Any) -> bool:
    return isinstance(node, fx.Node) and operator_name(node) in ("rand", "rand_like", "uniform")


def _divides_by(node: fx.Node, number: float) -> bool:
    divisor = _first_two(node)[1] if operator_name(node) == "div" else None
    return isinstance(divisor, int | float) and _is_close(divisor, number)


def _is_close(x: float, y: float) -> bool:
    return abs(x - y) < 1e-6
