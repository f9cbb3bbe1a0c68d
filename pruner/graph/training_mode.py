"""What a network does in training only, carried over into its graph of inference.

A model is exported as it infers, and all that a flag ``self.training`` guards is not in that graph:
stochastic depth, the dropout inside of an attention. So it is exported once more as it trains. Both
graphs come from the same Python code and call the same operators in the same modules in the same
order, but for what training adds. Additions that are the identity in inference are put into the
graph of inference; others are named.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from .ops import operator_arguments, operator_name
from .stochastic import drop_path

_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")


_COPIES = ("contiguous", "clone", "alias", "detach")


def asks(model: nn.Module) -> bool:
    """Whether any module's code asks if it is in training, plain dropouts and batch norms aside."""
    plain = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    kinds = {type(module) for module in model.modules() if not isinstance(module, plain)}
    methods = {
        inspect.unwrap(value)
        for kind in kinds
        for base in kind.__mro__
        if base not in (nn.Module, torch.nn.Module, object)
        for value in vars(base).values()
        if inspect.isfunction(value)
    }
    return any("training" in code.co_names for f in methods for code in _codes(f.__code__))


def _codes(code: Any) -> Iterator[Any]:
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _codes(constant)


def carry_over(graph: fx.Graph, training: fx.Graph) -> tuple[str, ...]:
    """Put what training adds into the graph of inference; returns what cannot be, in words.

    ``training`` is used up. Stochastic depth becomes ``msprune::drop_path``, dropouts come as they
    are, and the probability of an attention's dropout is noted in ``meta["training"]``.
    """
    _mark_drop_paths(training)
    theirs = _match(graph, training)
    notes: dict[str, None] = {}
    copies: dict[fx.Node, fx.Node] = {}
    ours = {node: mine for mine, node in theirs.items()}
    for mine, node in theirs.items():
        sources, their_sources = _sources(mine), _sources(node)
        if len(sources) != len(their_sources):
            continue
        for place, (source, their_source) in enumerate(zip(sources, their_sources)):
            added = _added(their_source, ours)
            if added is None:
                notes[_unknown(their_source)] = None
            elif added and _base(added[-1], ours) is source:
                for step in reversed(added):
                    source = copies.get(step) or _insert(graph, step, source, mine, copies)
                _set_source(mine, place, source)
        _literals(mine, node)
    return tuple(notes)


def _match(graph: fx.Graph, training: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Nodes of the one graph and of the other that come from the same call."""
    known = {_key(node) for node in graph.nodes}
    mine = list(graph.nodes)
    other = [node for node in training.nodes if not _is_addition(node) or _key(node) in known]
    left, right = [_key(node) for node in mine], [_key(node) for node in other]
    if left == right:
        return dict(zip(mine, other))
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return {mine[a + i]: other[b + i] for a, b, n in blocks for i in range(n)}


def _key(node: fx.Node) -> tuple[str, str]:
    name = node.target if node.op == "get_attr" else operator_name(node)
    return str(name), str(node.meta.get("path"))


def _is_addition(node: fx.Node) -> bool:
    return node.op == "call_function" and (
        node.target is drop_path or operator_name(node) in _DROPOUTS
    )


def _sources(node: fx.Node) -> list[fx.Node]:
    """The node's inputs in the order of its arguments, repeats included."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def _input(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def _added(source: fx.Node, ours: dict[fx.Node, fx.Node]) -> list[fx.Node] | None:
    """The additions on the way back to a node that both graphs have; None if others lie there."""
    steps = []
    while source not in ours:
        if _is_addition(source):
            steps.append(source)
        elif operator_name(source) not in _COPIES:
            return None
        source = _input(source)
    return steps


def _base(step: fx.Node, ours: dict[fx.Node, fx.Node]) -> fx.Node:
    while step not in ours:
        step = _input(step)
    return ours[step]


def _unknown(source: fx.Node) -> str:
    while _is_addition(source) or operator_name(source) in _COPIES:
        source = _input(source)
    path = source.meta.get("path") or "the network"
    return f"{path} works otherwise in training ({operator_name(source)}): that is not kept"


def _insert(
    graph: fx.Graph,
    step: fx.Node,
    source: fx.Node,
    reader: fx.Node,
    copies: dict[fx.Node, fx.Node],
) -> fx.Node:
    with graph.inserting_before(reader):
        made = graph.call_function(
            step.target,  # type: ignore[arg-type]
            (source, *step.args[1:]),
            step.kwargs,
        )
    if operator_name(step) in _DROPOUTS:
        made.args = (source, operator_arguments(step)["p"], False)
    made.meta.update(source.meta, path=step.meta["path"])
    copies[step] = made
    return made


def _set_source(node: fx.Node, place: int, source: fx.Node) -> None:
    count = iter(range(len(_sources(node))))
    node.args, node.kwargs = fx.node.map_arg(
        (node.args, node.kwargs), lambda old: source if next(count) == place else old
    )


def _literals(mine: fx.Node, node: fx.Node) -> None:
    if operator_name(node) == "scaled_dot_product_attention":
        p = operator_arguments(node)["dropout_p"]
        if p and not operator_arguments(mine)["dropout_p"]:
            mine.meta["training"] = {"dropout_p": p}


# ------------------------------------------------------------------------------- stochastic depth


def _mark_drop_paths(graph: fx.Graph) -> None:
    """Products with a mask of one random number a sample (or a batch) become one operator."""
    for node in list(graph.nodes):
        if node.op != "call_function" or operator_name(node) != "mul":
            continue
        left, right = _two(node)
        if isinstance(left, fx.Node) and isinstance(right, fx.Node):
            _mark(graph, node, left, right) or _mark(graph, node, right, left)
    graph.eliminate_dead_code(lambda node: node.op not in ("placeholder", "output"))


def _mark(graph: fx.Graph, product: fx.Node, x: fx.Node, mask: fx.Node) -> bool:
    """Whether the product of x and the mask is stochastic depth; then an operator replaces it."""
    shape: tuple[int, ...] = x.meta.get("shape") or ()
    drawn: tuple[int, ...] = mask.meta.get("shape") or ()
    law = _law(mask)
    if law is None or not shape or len(drawn) != len(shape) or any(n != 1 for n in drawn[1:]):
        return False
    keep, scale = law
    if drawn[0] not in (1, shape[0]):
        return False
    end = product
    reader = next(iter(product.users)) if len(product.users) == 1 else None
    if _close(scale, 1) and _divided_by(x, keep):  # x / keep * mask
        x, scale = _input(x), 1 / keep
    elif _close(scale, 1) and reader is not None and _divided_by(reader, keep):
        end, scale = reader, 1 / keep
    if not (_close(scale, 1) or _close(scale * keep, 1)):
        return False
    mode = "row" if drawn[0] == shape[0] and shape[0] > 1 else "batch"
    with graph.inserting_after(end):
        made = graph.call_function(drop_path, (x, 1 - keep, mode, _close(scale * keep, 1)))
    made.meta.update(end.meta)
    end.replace_all_uses_with(made)
    return True


def _law(node: fx.Node) -> tuple[float, float] | None:
    """(keep, scale) of a tensor that holds scale with probability keep, else zero."""
    name = operator_name(node)
    first, second = _two(node)
    if name == "bernoulli":
        keep = second if len(node.args) > 1 else _filled(first)
        return (float(keep), 1.0) if isinstance(keep, int | float) and 0 < keep <= 1 else None
    if not isinstance(first, fx.Node):
        return None
    if name in ("div", "mul") and isinstance(second, int | float):
        law, factor = _law(first), second if name == "mul" else 1 / second
        return (law[0], law[1] * factor) if law else None
    if name in ("to", "_to_copy", "type_as", "clone", "contiguous", "view", "reshape", "expand"):
        return _law(first)
    if name == "floor":  # floor(keep + u), u uniform
        terms = _two(first) if operator_name(first) == "add" else ()
        keep = next((term for term in terms if isinstance(term, int | float)), None)
        if keep is not None and 0 < keep <= 1 and any(map(_is_uniform, terms)):
            return float(keep), 1.0
    if name in ("lt", "le", "gt", "ge") and _is_uniform(first) and isinstance(second, int | float):
        keep = second if name in ("lt", "le") else 1 - second
        return (float(keep), 1.0) if 0 < keep <= 1 else None
    return None


def _two(node: fx.Node) -> tuple[Any, Any]:
    """The first two arguments."""
    padded: tuple[Any, ...] = (*node.args, None, None)
    return padded[0], padded[1]


def _filled(node: Any) -> Any:
    """The number that a tensor is full of."""
    if isinstance(node, fx.Node) and operator_name(node) in ("full", "full_like", "new_full"):
        return operator_arguments(node)["fill_value"]
    return None


def _is_uniform(node: Any) -> bool:
    return isinstance(node, fx.Node) and operator_name(node) in ("rand", "rand_like", "uniform")


def _divided_by(node: fx.Node, number: float) -> bool:
    divisor = _two(node)[1] if operator_name(node) == "div" else None
    return isinstance(divisor, int | float) and _close(divisor, number)


def _close(x: float, y: float) -> bool:
    return abs(x - y) < 1e-6
