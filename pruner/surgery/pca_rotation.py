"""PCA rotation: the same function with linear streams in the basis of their main directions.

Between a linear bottleneck's layers there is no activation: such a stream may be written in any
basis, if what writes and what reads it are rotated alike. In the basis of its main directions the
last channels carry almost nothing, and cutting them costs far less than cutting any channel of the
trained network (as SliceGPT does for transformers: Ashkboos et al. 2024, arXiv 2401.15024).
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..axes import Atom, atoms_of, resolve_axis
from ..data import Batch
from ..graph import (
    BatchNorm,
    StagedExecution,
    batch_norm_scale,
    effective_weight,
    evaluation_mode,
    find_batch_norm_after,
    get_layer,
    is_batch_norm,
    is_ungrouped,
    materialize,
    operator_name,
    producer_of,
)
from ..structure import Network
from ..tasks import NetworkCalls, Task


@dataclass(frozen=True)
class Stream:
    """A Dim whose channels nothing but linear layers write and read.

    Attributes:
        dim: The Dim's name.
        writers: Nodes of the Network's module that call layers, with the batch norm behind each.
        readers: Nodes that call layers.
    """

    dim: str
    writers: tuple[tuple[fx.Node, fx.Node | None], ...]
    readers: tuple[fx.Node, ...]


def find_streams(net: Network) -> dict[str, Stream]:
    """Return the streams that may be rotated, by the names of their Dims."""
    nodes = {node.name: node for node in net.module.graph.nodes}
    carrying: dict[Atom, list[tuple[fx.Node, int]]] = {net.atoms[name]: [] for name in net.dims}
    mixed: set[Atom] = set()
    for node in net.program.graph.nodes:
        if node.op == "get_attr" or node.name not in nodes:
            continue
        for i, axis in enumerate(net.axis_map.all_axes(node)):
            axis = resolve_axis(axis)
            if isinstance(axis, Atom):
                if axis in carrying:
                    carrying[axis].append((nodes[node.name], i))
            else:
                mixed.update(carrying.keys() & set(atoms_of(axis)))
    calls = [node.target for node in nodes.values() if node.op == "call_module"]
    pure = {name: net.atoms[name] for name in net.dims if net.atoms[name] not in mixed}
    streams = {name: _read_stream(net, name, carrying[atom], calls) for name, atom in pure.items()}
    return {name: stream for name, stream in streams.items() if stream is not None}


def _read_stream(
    net: Network, name: str, carrying: list[tuple[fx.Node, int]], calls: list[Any]
) -> Stream | None:
    """Return the stream of a Dim carried by these nodes' axes, None where it may not be rotated."""
    carriers = {node for node, _ in carrying}
    writers: dict[fx.Node, fx.Node | None] = {}
    readers: dict[fx.Node, None] = {}
    for node, axis in carrying:
        layer = get_layer(net.module, node)
        if is_ungrouped(layer):
            if calls.count(node.target) > 1 or axis != _get_channel_axis(layer, node):
                return None
            writers[node] = None
        elif isinstance(layer, BatchNorm):
            writer = producer_of(node)
            behind = (
                find_batch_norm_after(net.module, writer) is node and calls.count(node.target) == 1
            )
            if writer not in writers or not behind:
                return None
            writers[writer] = node
        elif operator_name(node) == "add" and not node.kwargs:
            if not set(node.args[:2]) <= carriers:
                return None
        elif not isinstance(layer, (nn.Dropout, nn.Identity)):
            return None
        for user in node.users:
            if user.op == "call_module" and is_ungrouped(get_layer(net.module, user)):
                if calls.count(user.target) > 1:
                    return None
                readers[user] = None
            elif user not in carriers:
                return None
    if not writers or not readers:
        return None
    return Stream(name, tuple(writers.items()), tuple(readers))


def _get_channel_axis(layer: nn.Module | None, node: fx.Node) -> int:
    """Return the axis of the channels in a layer's result."""
    if isinstance(layer, nn.Conv2d):
        return 1
    shape = node.meta.get("shape")
    return len(shape) - 1 if shape else 1


def rotate(
    net: Network, batches: Iterable[Batch], *, memory_mb: float = 1024, task: Task | None = None
) -> Network:
    """Return a Network of the same function with linear streams in the basis that readers weigh.

    With the covariance C of a stream's values where they are read, and M = sum of W^T W over its
    readers' weights (behind their batch norms), cutting to k channels costs the readers
    tr(M (1 - P) C (1 - P)^T) for a projection P of rank k. It is least for the first k
    eigenvectors V of M^1/2 C M^1/2: the stream becomes V^T M^1/2 x, most important first.

    Batch norms behind writers get the statistics that the rotated channels have on the batches. The
    network given is left as it was; without linear streams it is returned. The task calls it
    (None: with the inputs as its arguments).
    """
    found = find_streams(net)
    if not found:
        return net
    inputs = NetworkCalls.record(task or Task(), net.module, batches).arguments
    if not inputs:
        return net
    moments = _measure_moments(net, found, inputs, memory_mb)
    tensors = dict(net.program.tensors)
    with torch.no_grad():
        for stream in found.values():
            rotation, inverse = _find_rotation(net.module, stream, moments)
            # Read before any writer is rotated, since a layer may do both.
            _rotate_stream(net.module, stream, rotation, inverse, moments, tensors)
    return replace_tensors(net, tensors)


def replace_tensors(net: Network, tensors: Mapping[str, Tensor]) -> Network:
    """Return the same Network with other values for some of its tensors, by their names."""
    known = net.program.tensors
    values = {
        name: nn.Parameter(tensor)
        if isinstance(known[name], nn.Parameter) and not isinstance(tensor, nn.Parameter)
        else tensor
        for name, tensor in tensors.items()
    }
    program = replace(net.program, tensors={**known, **values})
    axis_map = copy.copy(net.axis_map)
    axis_map.program = program
    module = materialize(program, type(net.module).__name__)
    return replace(net, program=program, axis_map=axis_map, module=module)


Moments = Mapping[str, tuple[Tensor, Tensor]]


def _measure_moments(
    net: Network, found: Mapping[str, Stream], inputs: Sequence[tuple[Any, ...]], memory_mb: float
) -> Moments:
    """Return mean and covariance of what readers read and writers write, by the node's name."""
    sums: dict[str, list[Any]] = {}
    for stream in found.values():
        written = (norm or writer for writer, norm in stream.writers)
        for node in (*written, *map(producer_of, stream.readers)):
            sums[node.name] = [0, 0.0, 0.0]
    with evaluation_mode(net.module):
        for values in StagedExecution(net.module, inputs, memory_mb * 2**20).values(list(sums)):
            for name, value in values.items():
                axis = 1 if value.ndim == 4 else value.ndim - 1
                rows = value.movedim(axis, -1).flatten(0, -2)
                sums[name][0] += len(rows)
                sums[name][1] += rows.double().sum(0)
                sums[name][2] += (rows.T @ rows).double()
    result = {}
    for name, (count, total, products) in sums.items():
        mean = total / count
        result[name] = (mean, products / count - torch.outer(mean, mean))
    return result


def _find_rotation(module: nn.Module, stream: Stream, moments: Moments) -> tuple[Tensor, Tensor]:
    """Return the rotation [channels, channels] of a stream and its inverse."""
    metric, covariance = torch.zeros(()), torch.zeros(())
    for reader in stream.readers:
        weight = effective_weight(module, reader).movedim(1, -1).flatten(0, -2)
        metric = metric + weight.T @ weight
        covariance = covariance + moments[producer_of(reader).name][1]
    values, vectors = torch.linalg.eigh(metric)
    # Directions that nobody reads keep a little weight, so that the rotation has an inverse.
    root = values.clamp_min(1e-6 * float(values.max())).sqrt()
    half = vectors * root @ vectors.T
    half_inverse = vectors / root @ vectors.T
    _, main = torch.linalg.eigh(half @ covariance @ half)
    main = main.flip(1)
    return main.T @ half, half_inverse @ main


def _rotate_stream(
    module: nn.Module,
    stream: Stream,
    rotation: Tensor,
    inverse: Tensor,
    moments: Moments,
    tensors: dict[str, Tensor],
) -> None:
    """Write the rotated weights of a stream's writers and readers into tensors."""

    def store(name: str, value: Tensor) -> None:
        old = tensors[name]
        new = value.to(old.dtype)
        tensors[name] = nn.Parameter(new) if isinstance(old, nn.Parameter) else new

    for reader in stream.readers:
        name = f"{reader.target}.weight"
        weight = tensors[name].double()
        store(name, torch.einsum("oi...,ij->oj...", weight, inverse))
    for writer, norm in stream.writers:
        name = str(writer.target)
        weight = tensors[f"{name}.weight"].double()
        if norm is None:
            store(f"{name}.weight", torch.einsum("oi,i...->o...", rotation, weight))
            if f"{name}.bias" in tensors:
                store(f"{name}.bias", rotation @ tensors[f"{name}.bias"].double())
            continue
        layer = module.get_submodule(str(norm.target))
        assert is_batch_norm(layer) and layer.running_mean is not None
        scale = batch_norm_scale(layer)
        shift = layer.bias.double() - scale * layer.running_mean.double()
        bias = tensors.get(f"{name}.bias")
        if bias is not None:
            shift = shift + scale * bias.double()
            store(f"{name}.bias", torch.zeros_like(bias))
        mean, covariance = moments[norm.name]
        mean = rotation @ mean
        variance = torch.einsum("ij,jk,ik->i", rotation, covariance, rotation).clamp_min(0)
        store(f"{name}.weight", torch.einsum("oi,i,i...->o...", rotation, scale, weight))
        store(f"{norm.target}.running_mean", mean - rotation @ shift)
        store(f"{norm.target}.running_var", variance)
        store(f"{norm.target}.weight", (variance + layer.eps).sqrt())
        store(f"{norm.target}.bias", mean)
