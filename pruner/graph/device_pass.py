"""Lets tensors that a network makes be made where its input is, not where it was traced."""

from collections.abc import Collection
from typing import Any

import torch
from torch import fx


def follow_input_device(
    graph: fx.Graph, source: fx.Node | None, traced_on: Collection[torch.device]
) -> None:
    """Replace the devices that stand in a graph by that of an input, in place.

    ``torch.arange(n, device=x.device)`` is traced with the device as a constant, and would stay
    there when the module moves.

    Args:
        graph: Of a module to be.
        source: A placeholder that takes a tensor; None: there is none, and nothing is changed.
        traced_on: The devices that the network was traced on; others were meant by the code.
    """
    if source is None:
        return
    kinds = {device.type for device in traced_on} or {"cpu"}
    read: list[fx.Node] = []

    def follow(value: Any) -> Any:
        if not isinstance(value, torch.device) or value.type not in kinds:
            return value
        if not read:
            with graph.inserting_after(source):
                read.append(graph.call_function(getattr, (source, "device")))
        return read[0]

    for node in list(graph.nodes):
        if node.op in ("call_function", "call_method", "call_module"):
            node.args = fx.node.map_aggregate(node.args, follow)  # type: ignore[assignment]
            node.kwargs = fx.node.map_aggregate(node.kwargs, follow)  # type: ignore[assignment]
