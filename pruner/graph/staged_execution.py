"""A graph run in stages over the same batches, without running its beginning again."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx


class StagedExecution:
    """Values of a module's graph, batch by batch, from where the last stage was left.

    At its position, a node, every batch's live values are kept: what nodes before it computed and
    nodes from it on read. Layers from the position on may be changed at any time.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        inputs: Sequence[tuple[Any, ...]],
        memory_bytes: float = 2**30,
    ) -> None:
        """Start at the graph's first node.

        Args:
            module: In evaluation mode, of nodes without side effects.
            inputs: The batches: the module's arguments.
            memory_bytes: The position moves only where the live values of all batches take at most
                this much; where they take more, the stage from the last position is run again.
        """
        self.module, self.memory_bytes = module, memory_bytes
        self.nodes = [node for node in module.graph.nodes if node.op != "output"]
        self.place = {node.name: i for i, node in enumerate(self.nodes)}
        end = len(self.nodes)
        self.last = {
            node: max((self.place.get(user.name, end) for user in node.users), default=-1)
            for node in self.nodes
        }
        placeholders = [node for node in self.nodes if node.op == "placeholder"]
        self.position = 0
        self.kept: list[dict[fx.Node, Any]] = [
            dict(zip(placeholders, batch, strict=False)) for batch in inputs
        ]

    @torch.no_grad()
    def values(self, names: Collection[str], before: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the values of these nodes, batch by batch.

        Args:
            names: Names of nodes.
            before: Move the position to that node, once all batches are through. It must not lie
                behind any node that a later stage asks for.
        """
        wanted = {self.nodes[self.place[name]] for name in names}
        stop = max((self.place[name] for name in names), default=-1) + 1
        goal = self.position if before is None else max(self.position, self.place[before])
        later: list[dict[fx.Node, Any]] = []
        room = self.memory_bytes
        interpreter = fx.Interpreter(self.module, garbage_collect_values=False)
        for kept in self.kept:
            env = interpreter.env = dict(kept)
            for i in range(self.position, max(stop, goal) + 1):
                if i == goal and goal > self.position:
                    live = {n: v for n, v in env.items() if self.last[n] >= goal}
                    room -= _count_bytes(live)
                    later.append(live)
                if i == max(stop, goal):
                    break
                node = self.nodes[i]
                if node not in env:
                    env[node] = interpreter.run_node(node)
                for source in node.all_input_nodes:  # what nothing reads any more makes room
                    if self.last[source] <= i and source not in wanted:
                        env.pop(source, None)
            yield {node.name: env[node] for node in wanted}
            if room < 0:
                later.clear()
        if goal > self.position and room >= 0:
            self.position, self.kept = goal, later


def _count_bytes(values: dict[fx.Node, Any]) -> int:
    unique = {id(v): v.nbytes for v in values.values() if isinstance(v, Tensor)}
    return sum(unique.values())
