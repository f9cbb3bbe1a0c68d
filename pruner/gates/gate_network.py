"""gate_network: a traced network that reads every index of its Dims through a number."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, fx, nn

from ..errors import PrunerError
from ..graph import Block, child_modules, materialize, operator_arguments, operator_name
from ..structure import Network
from ..utils import choose_unused_name, suggest_names
from . import along, contractions  # noqa: F401  (they register their handlers)
from .tables import Gates, escape_name
from .weighted import gate_branch
from .writer import GateWriter, set_argument

__all__ = ["find_gates", "gate_network"]


def gate_network(
    net: Network, dims: Iterable[str] | None = None, blocks: Iterable[str] | None = None
) -> fx.GraphModule:
    """Return a copy of a network in which a number stands on every index of Dims and on Blocks.

    The numbers, gates, are parameters of the module's child ``gates`` (`Gates`), all at one; the
    rest of ``state_dict`` is that of ``net.module``. A gate multiplies what reads its index:

    - the weights of convolutions, linear and recurrent layers along what they read, and one factor
      of every other product that sums over the index;
    - what works along the index takes the gates g as weights: a layer norm's mean is
      sum(g x) / sum(g), a softmax exp(x) / sum(g exp(x)), a maximum that of all x lowered to the
      smallest by 1 - g;
    - the join of a Block becomes ``skip + gate * branch``.

    So at one it computes what the network does, at zeros and ones what `pruner.apply` makes of the
    Plan that keeps the ones, both to rounding, and it has derivatives by every gate (those of
    maxima almost everywhere, of truth values and counts none). It starts in evaluation mode; in
    training, statistics of batch norms and dropout are those of the layers that are left.

    To compute with other numbers than the parameters, such as functions of something else, hand
    them to ``torch.func.functional_call`` under the parameters' names.

    Args:
        net: The network, which is left as it was; tensors are copied.
        dims: The Dims that get gates; None: all. Each costs time where it is read.
        blocks: The Blocks that get a gate; None: all.

    Raises:
        PrunerError: A name is none of the network's, or an operator works along a Dim in a way
            that has no weighted form (the median, averages over neighbouring channels).
    """
    chosen = _choose_names("dim", dims, net.dims)
    branches = [net.blocks[name] for name in _choose_names("block", blocks, net.blocks)]
    dtype, device = _find_type(net)
    root = choose_unused_name("gates", {name.partition(".")[0] for name in net.program.tensors})
    dim_gates = {n: nn.Parameter(torch.ones(net.dims[n].size, dtype=dtype, device=device))
                 for n in chosen}  # fmt: skip
    block_gates = {b.name: nn.Parameter(torch.ones((), dtype=dtype, device=device))
                   for b in branches}  # fmt: skip
    dim_names = {name: f"{root}.dims.{escape_name(name)}" for name in dim_gates}
    block_names = {name: f"{root}.blocks.{escape_name(name)}" for name in block_gates}
    writer = GateWriter(net, dim_names, dtype)
    writer.rewrite()
    for block in branches:
        _gate_join(writer, net, block, writer.reader.read_tensor(block_names[block.name], ()))
    tensors = {name: _copy_tensor(tensor) for name, tensor in net.program.tensors.items()}
    tensors |= {dim_names[name]: gate for name, gate in dim_gates.items()}
    tensors |= {block_names[name]: gate for name, gate in block_gates.items()}
    program = replace(net.program, graph=writer.graph, tensors=tensors)
    module = materialize(program, net.name)
    child_modules(module)[root] = Gates(dim_gates, block_gates).eval()
    return module


def find_gates(module: nn.Module) -> Gates:
    """Return the gates of a module, or of what it wraps; PrunerError where it has none."""
    for child in module.modules():
        if isinstance(child, Gates):
            return child
    raise PrunerError("the module has no gates: make one by gate_network(net)")


def _choose_names(kind: str, names: Iterable[str] | None, known: Mapping[str, object]) -> list[str]:
    """Return the names that were asked for, in the network's order; None: all."""
    if names is None:
        return list(known)
    asked = set(names)
    for name in sorted(asked - set(known)):
        hint = suggest_names(name, known) or "`net.dims` and `net.blocks` list them"
        raise PrunerError(f"the network has no {kind} {name!r}; {hint}")
    return [name for name in known if name in asked]


def _find_type(net: Network) -> tuple[torch.dtype, torch.device]:
    """Return the type and device of the first parameter of real numbers."""
    for tensor in net.program.tensors.values():
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.get_default_dtype(), torch.device("cpu")


def _copy_tensor(tensor: Tensor) -> Tensor:
    values = tensor.detach().clone()
    return (
        nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
    )


def _gate_join(writer: GateWriter, net: Network, block: Block, gate: fx.Node) -> None:
    """Multiply the branch by its gate where it joins; a scale that is multiplied in takes it."""
    join = next(node for node in net.program.graph.nodes if node.name == block.join)
    own, name = writer.copies[join], operator_name(join)
    if name == "addcmul":  # skip + value * scale * branch
        place = min((1, 2), key=lambda i: prod(join.args[i].meta["shape"]))  # type: ignore[union-attr]
        with writer.graph.inserting_before(own):
            scaled = writer.graph.call_function(torch.ops.aten.mul.Tensor, (own.args[place], gate))
        scaled.meta = dict(join.args[place].meta)  # type: ignore[union-attr]
        set_argument(own, (place,), scaled)
        return
    skip = next(i for i in (0, 1) if join.args[i].name not in block.nodes)  # type: ignore[union-attr]
    alpha = operator_arguments(join)["alpha"]
    sign = -alpha if name == "sub" else alpha
    own.target, own.kwargs = gate_branch, {}
    own.args = (own.args[skip], own.args[1 - skip], gate, sign)
