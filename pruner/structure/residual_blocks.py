"""Finds the removable Blocks of a graph: branches that join their skip connection in a sum."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import fx

from ..axes import CONVOLUTIONS, GATES, NORMALIZATIONS, POOLINGS, PRODUCTS, VECTOR_NORMS
from ..graph import find_input_dependent, operator_name
from ..utils import choose_unused_name, find_common_path
from .network import Block

Work: TypeAlias = tuple[int, int]
"""(weighted operators, normalizations and poolings) on a way through a graph."""

_WEIGHTED = ("linear", "deform_conv2d", *CONVOLUTIONS, *GATES)
_PRODUCTS = ("einsum", *PRODUCTS)
_LIGHT = {*NORMALIZATIONS, *VECTOR_NORMS, *POOLINGS}


@dataclass(frozen=True)
class _Candidate:
    """One way to read a sum: its skip connection, and the nodes that fall away."""

    join: fx.Node
    skip: fx.Node
    nodes: frozenset[fx.Node]
    work: Work


def find_blocks(graph: fx.Graph) -> dict[str, Block]:
    """Return every branch that joins its skip connection in a sum and is read nowhere else.

    The join is ``skip + branch``, ``skip - branch`` or ``addcmul(skip, scale, branch)``, the branch
    scaled or not. Of two operands that could both go, the one with more work on the shortest way to
    it is the branch (an identity has none, a projection one convolution). No branch is what holds
    neither a weighted operator nor a pooling, what holds all weighted operators (``x + net(x)`` of
    restoration: nothing would be left), what alone reads an input of the network, what is added to
    the scores of an attention, and one of two equal answers that are summed.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    live, batched = find_input_dependent(graph), find_input_dependent(graph, sizes=True)
    answers, scores = (
        _find_leading_to(graph, "output"),
        _find_leading_to(graph, "softmax", "_softmax"),
    )
    weighted = {node for node in live if _count_work(node, live)[0]}
    found: list[_Candidate] = []
    for join in graph.nodes:
        candidates = []
        for skip, branches in _split_sum(join):
            if skip not in batched or skip.meta.get("shape") != join.meta["shape"]:
                continue
            nodes = _collect_branch(join, branches, order)
            if not any(_has_work(node, live) for node in nodes) or _orphans_input(nodes):
                continue
            if weighted <= nodes:
                continue
            work = max(_find_least_work(branch, skip, nodes, live, order) for branch in branches)
            if work > (0, 0):
                candidates.append(_Candidate(join, skip, frozenset({*nodes, join}), work))
        equal = len({c.work for c in candidates}) < len(candidates)
        if candidates and join not in scores and not (equal and join in answers):
            found.append(max(candidates, key=lambda c: c.work))
    return _name_blocks(found, live)


def _split_sum(join: fx.Node) -> Iterator[tuple[fx.Node, tuple[fx.Node, ...]]]:
    """Yield (skip, branches) for every way to read a sum; the operand written last first."""
    name = operator_name(join)
    if name not in ("add", "sub", "addcmul"):
        return
    first, *rest = join.args
    branches = tuple(x for x in rest if isinstance(x, fx.Node))
    if not isinstance(first, fx.Node) or not branches or first in branches:
        return
    yield first, branches
    if name == "add" and join.kwargs.get("alpha", 1) == 1:
        yield branches[0], (first,)


def _collect_branch(
    join: fx.Node, branches: tuple[fx.Node, ...], order: Mapping[fx.Node, int]
) -> set[fx.Node]:
    """Return the nodes that are read only on the way to these operands of a join."""
    inside: set[fx.Node] = set()
    # latest first: all readers of a node are settled before the node itself
    pending = [(-order[branch], branch) for branch in branches]
    heapq.heapify(pending)
    while pending:
        _, node = heapq.heappop(pending)
        if node.op == "placeholder" or node in inside:
            continue
        if any(reader not in inside and reader is not join for reader in node.users):
            continue
        if join in node.users and node not in branches:
            continue
        inside.add(node)
        for source in node.all_input_nodes:
            if source not in inside:
                heapq.heappush(pending, (-order[source], source))
    return inside


def _has_work(node: fx.Node, live: set[fx.Node]) -> bool:
    """Return whether an operator has weights or is a pooling."""
    return node in live and (operator_name(node) in POOLINGS or _count_work(node, live)[0] > 0)


def _count_work(node: fx.Node, live: set[fx.Node]) -> Work:
    """Return the work of one operator; of a product of two activations none."""
    name = operator_name(node)
    if name in _PRODUCTS:
        return int(any(source not in live for source in node.all_input_nodes)), 0
    return int(name in _WEIGHTED), int(name in _LIGHT)


def _find_least_work(
    branch: fx.Node,
    skip: fx.Node,
    nodes: set[fx.Node],
    live: set[fx.Node],
    order: Mapping[fx.Node, int],
) -> Work:
    """Return the least work on a way into these nodes to a branch's end.

    A way from the skip connection without any work does not count: ``x + (pool(x) - x)`` loses no
    identity with its branch, ``(x + f(x)) + g(x)`` does with the first of the two.
    """
    # node -> least work on the ways from elsewhere, least on those from the skip connection that
    # have any, whether there is one from it that has none
    memo: dict[fx.Node, tuple[Work | None, Work | None, bool]] = {}

    def get_ways(node: fx.Node) -> tuple[Work | None, Work | None, bool]:
        """Return what is known of a node; those outside the branch need no work."""
        elsewhere = node in live and node is not skip
        return memo.get(node) or ((0, 0) if elsewhere else None, None, node is skip)

    for node in sorted(nodes & live, key=order.__getitem__):
        here = _count_work(node, live)
        before = [get_ways(source) for source in node.all_input_nodes]
        bare = any(none for _, _, none in before)
        worked = [some for _, some, _ in before]
        if bare and here > (0, 0):
            worked.append((0, 0))
        others = _add_work(here, [other for other, _, _ in before])
        memo[node] = (others, _add_work(here, worked), bare and here == (0, 0))
    ways = [way for way in get_ways(branch)[:2] if way is not None]
    return min(ways, default=(0, 0))


def _add_work(here: Work, ways: list[Work | None]) -> Work | None:
    """Return an operator's work after the least of the ways to it, None without a way."""
    known = [way for way in ways if way is not None]
    if not known:
        return None
    least = min(known)
    return least[0] + here[0], least[1] + here[1]


def _orphans_input(nodes: set[fx.Node]) -> bool:
    """Return whether an input of the network is read (but for its size) by these nodes alone."""
    inputs = {s for node in nodes for s in node.all_input_nodes if s.op == "placeholder"}
    return any(
        all(reader in nodes or operator_name(reader) == "sym_size" for reader in source.users)
        for source in inputs
    )


def _find_leading_to(graph: fx.Graph, *operators: str) -> set[fx.Node]:
    """Return the nodes whose values reach one of these operators with no weighted one between."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        for reader in node.users:
            name = operator_name(reader)
            weighted = name in _WEIGHTED or name in _PRODUCTS
            if name in operators or (reader in found and not weighted):
                found.add(node)
    return found


def _name_blocks(found: list[_Candidate], live: set[fx.Node]) -> dict[str, Block]:
    """Return Blocks, each named after the module that holds all the work of its branch."""
    result: dict[str, Block] = {}
    for one in found:
        weighted = [node for node in one.nodes & live if _count_work(node, live)[0]]
        anchors = weighted or [node for node in one.nodes & live if _has_work(node, live)]
        path = find_common_path(node.meta.get("path") or "" for node in anchors)
        path = path or one.join.meta.get("path") or one.join.name
        name = choose_unused_name(path, result)
        names = frozenset(node.name for node in one.nodes)
        result[name] = Block(name, one.join.name, one.skip.name, names)
    around = index_blocks(result)
    for name, block in result.items():
        inside = tuple(other for other in find_shared_blocks(block.nodes, around) if other != name)
        result[name] = Block(name, block.join, block.skip, block.nodes, inside)
    return result


def index_blocks(all_blocks: Mapping[str, Block]) -> dict[str, tuple[str, ...]]:
    """Return node name -> the blocks that it lies in, outermost first."""
    result: dict[str, tuple[str, ...]] = {}
    for name in sorted(all_blocks, key=lambda name: -len(all_blocks[name].nodes)):
        for node in all_blocks[name].nodes:
            result[node] = (*result.get(node, ()), name)
    return result


def find_shared_blocks(
    nodes: Iterable[str], around: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the blocks that all of these nodes lie in, outermost first; see `index_blocks`."""
    rows = [around.get(node, ()) for node in nodes]
    if not rows:
        return ()
    shared = set(rows[0]).intersection(*rows[1:])
    return tuple(name for name in rows[0] if name in shared)
