"""What a network does in training only, carried over into its graph of inference.

A model is exported as it infers, and all that a flag ``self.training`` guards is not in that graph:
stochastic depth, the dropout inside of an attention. So it is exported once more as it trains. Both
graphs come from the same Python code and call the same operators in the same modules in the same
order, but for what training adds. Additions that are the identity in inference are put into the
graph of inference; others are named.
"""

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from torch import fx, nn

from .drop_path_pass import mark_drop_paths
from .ops import DROPOUTS, operator_arguments, operator_name, producer_of
from .stochastic import drop_path
from .torch_internals import Dropout, RunningNorm

_COPIES = ("contiguous", "clone", "alias", "detach")


def reads_training_flag(model: nn.Module) -> bool:
    """Whether any module's code asks if it is in training, plain dropouts and norms aside."""
    kinds = {type(m) for m in model.modules() if not isinstance(m, Dropout | RunningNorm)}
    methods = {
        inspect.unwrap(value)
        for kind in kinds
        for base in kind.__mro__
        if base not in (nn.Module, object)
        for value in vars(base).values()
        if inspect.isfunction(value)
    }
    return any("training" in code.co_names for f in methods for code in _walk_code(f.__code__))


def _walk_code(code: Any) -> Iterator[Any]:
    """Yield a function's code and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _walk_code(constant)


def carry_over_training(graph: fx.Graph, training: fx.Graph) -> tuple[str, ...]:
    """Put what training adds into the graph of inference; return what cannot be, in words.

    Stochastic depth becomes ``msprune::drop_path``, dropouts come as they are, and the probability
    of an attention's dropout is noted in ``meta["training"]``. The graph of inference is changed
    in place, that of training used up.
    """
    mark_drop_paths(training)
    theirs = _match_calls(graph, training)
    notes: dict[str, None] = {}
    copies: dict[fx.Node, fx.Node] = {}
    ours = {node: mine for mine, node in theirs.items()}
    for mine, node in theirs.items():
        sources, their_sources = _find_sources(mine), _find_sources(node)
        if len(sources) != len(their_sources):
            continue
        for place, (source, their_source) in enumerate(zip(sources, their_sources)):
            added, base = _find_additions(their_source, ours)
            if base is None:
                notes[_describe_difference(their_source)] = None
            elif added and base is source:
                for step in reversed(added):
                    if step not in copies:
                        copies[step] = _insert_copy(graph, step, source, mine)
                    source = copies[step]
                _set_source(mine, place, source)
        _note_dropout(mine, node)
    return tuple(notes)


def _match_calls(graph: fx.Graph, training: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Pair the nodes of the two graphs that come from the same call."""
    known = {_call_key(node) for node in graph.nodes}
    mine = list(graph.nodes)
    other = [node for node in training.nodes if not _is_addition(node) or _call_key(node) in known]
    left, right = [_call_key(node) for node in mine], [_call_key(node) for node in other]
    if left == right:
        return dict(zip(mine, other))
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return {mine[a + i]: other[b + i] for a, b, n in blocks for i in range(n)}


def _call_key(node: fx.Node) -> tuple[str, str]:
    name = node.target if node.op == "get_attr" else operator_name(node)
    return str(name), str(node.meta.get("path"))


def _is_addition(node: fx.Node) -> bool:
    return node.op == "call_function" and (
        node.target is drop_path or operator_name(node) in DROPOUTS
    )


def _find_sources(node: fx.Node) -> list[fx.Node]:
    """Return the node's inputs in the order of its arguments, repeats included."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def _find_additions(
    source: fx.Node, ours: dict[fx.Node, fx.Node]
) -> tuple[list[fx.Node], fx.Node | None]:
    """Return additions back to a node of both graphs, and our one (None: others between)."""
    steps: list[fx.Node] = []
    while source not in ours:
        if _is_addition(source):
            steps.append(source)
        elif operator_name(source) not in _COPIES:
            return steps, None
        source = producer_of(source)
    return steps, ours[source]


def _describe_difference(source: fx.Node) -> str:
    while _is_addition(source) or operator_name(source) in _COPIES:
        source = producer_of(source)
    path = source.meta.get("path") or "the network"
    return f"{path} works otherwise in training ({operator_name(source)}): that is not kept"


def _insert_copy(graph: fx.Graph, step: fx.Node, source: fx.Node, reader: fx.Node) -> fx.Node:
    """Copy an addition into the graph of inference, before its reader."""
    args: Any = (source, *step.args[1:])
    with graph.inserting_before(reader):
        made = graph.create_node("call_function", step.target, args, step.kwargs)
    if operator_name(step) in DROPOUTS:
        made.args = (source, operator_arguments(step)["p"], False)
    made.meta.update(source.meta, path=step.meta["path"])
    return made


def _set_source(node: fx.Node, place: int, source: fx.Node) -> None:
    count = iter(range(len(_find_sources(node))))
    node.args, node.kwargs = fx.node.map_arg(
        (node.args, node.kwargs), lambda old: source if next(count) == place else old
    )


def _note_dropout(mine: fx.Node, node: fx.Node) -> None:
    """Note the probability with which an attention drops its weights in training."""
    if operator_name(node) == "scaled_dot_product_attention":
        p = operator_arguments(node)["dropout_p"]
        if p and not operator_arguments(mine)["dropout_p"]:
            mine.meta["training"] = {"dropout_p": p}
