"""Calibration statistics: what reads each Dim and skips each Block, from one dense pass."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..axes import atoms_of
from ..data import Batch
from ..gates import sum_to_axis
from ..graph import (
    Block,
    StagedExecution,
    batch_norm_scale,
)
from ..reconstruction import (
    LinearRead,
    Moments,
    WeightViews,
    draw_positions,
    find_norm,
    find_reads,
    fit_ridge,
    get_shapes,
    mark_holdout,
)
from ..structure import Dim, Network, Slot
from ..tasks import NetworkCalls, Task
from ..utils import make_generator
from .obs import Elimination, LinearReader, eliminate

CHUNK = 10
"""Samples at a time, since the values of all layers are held at once."""


@dataclass(frozen=True)
class ReaderStatistics:
    """Input moments of one ungrouped convolution or linear operator that reads a Dim.

    What a recurrent layer reads of its input and of its own state are such operators, too; their
    outputs are the sums that enter the gates.

    Attributes:
        read: The operator, the first of several calls.
        norm: The call of the batch norm behind it, if there is one.
        slot: The weight's input axis.
        mean: [inputs * kernel], of what flows in at all positions of the kernel.
        gram: [inputs * kernel, inputs * kernel], about the mean where the layer or its norm can
            take a shift.
        held_out: As gram, about the same mean, of other images (None: there are none).
    """

    read: LinearRead
    norm: fx.Node | None
    slot: Slot
    mean: Tensor
    gram: Tensor
    held_out: Tensor | None

    @property
    def node(self) -> fx.Node:
        """The operator's call."""
        return self.read.node

    def read_weight(self, module: nn.Module) -> Tensor:
        """Read the weight, behind the norm's scale: [outputs, inputs * kernel] double."""
        weight = self.read.form.arrange(self.read.weight.tensor.detach().double())[0].mT
        return weight if self.norm is None else weight * self._read_scale(module)

    def _read_scale(self, module: nn.Module) -> Tensor:
        assert self.norm is not None
        return batch_norm_scale(module.get_submodule(str(self.norm.target)))[:, None]

    @property
    def reads_state(self) -> bool:
        """Whether it is what a recurrent layer reads of its own state."""
        return self.read.step is not None and self.read.step.of_state

    def to_linear(self, module: nn.Module, dim: Dim) -> LinearReader:
        """State the operator as `eliminate` wants it, which reads a Dim."""
        weight = self.read_weight(module)
        owner = np.repeat(self.slot.owner, weight.shape[1] // len(self.slot.owner))
        own = [s.owner for s in dim.slots if s.tensor == self.slot.tensor and s.role == "out"]
        written = own[0] if own and self.reads_state else None
        return LinearReader(weight, self.gram, owner, self.held_out, written)

    def place_weight(self, module: nn.Module, weight: Tensor) -> dict[str, Tensor]:
        """Return parameters by name that give the operator this weight and keep its mean output."""
        shift = (self.read_weight(module) - weight) @ self.mean
        if self.norm is not None:
            weight = weight / self._read_scale(module)
        read, old = self.read, self.read.weight.tensor.detach()
        result = {read.weight.name: read.form.restore(weight.mT[None], old.shape).to(old)}
        held = read.bias.name if read.bias is not None else None
        bias = held if self.norm is None else f"{self.norm.target}.bias"
        if bias is not None:
            old = module.get_parameter(bias).detach()
            result[bias] = (old.double() + shift).to(old)
        return result


@dataclass(frozen=True)
class CalibrationStatistics:
    """What one pass over the calibration images says of a network.

    Attributes:
        net: The dense network.
        readers: Dim -> the plain layers that read it, which can be refitted. It may be read
            otherwise as well: by groups, by a weight that is computed, by no weight at all.
        bypasses: Block -> moments of (skip, join), to fit on and held out.
    """

    net: Network
    readers: Mapping[str, Sequence[ReaderStatistics]]
    bypasses: Mapping[str, Sequence[Moments]]

    def eliminate(
        self, dim: Dim, refit_sizes: Sequence[int] = (), order: NDArray[np.int64] | None = None
    ) -> Elimination:
        """Find the order in which a Dim's indices go, and its readers' errors at every option.

        Where no plain layer reads the Dim (queries and keys), the smallest writers go first, and
        the error is the sum of their squares.

        Args:
            dim: The Dim.
            refit_sizes: Options at which the refitted weights are kept.
            order: In which the indices go instead, the first to go first.
        """
        readers = self.readers[dim.name]
        if readers:
            linear = [r.to_linear(self.net.module, dim) for r in readers]
            scales = _weigh_states(readers, linear)
            scaled = [replace(r, weight=s * r.weight) for r, s in zip(linear, scales)]
            found = eliminate(scaled, dim.size, dim.options(), refit_sizes, order=order)
            fits = {
                n: tuple(w / s for w, s in zip(own, scales)) for n, own in found.weights.items()
            }
            return replace(found, weights=fits)
        power = np.zeros(dim.size)
        for slot, tensor in self._list_parameters(s for s in dim.slots if s.role == "out"):
            squares = sum_to_axis(tensor.double().square(), slot.axis).cpu().numpy()
            owned = slot.owner >= 0
            np.add.at(power, slot.owner[owned], squares[owned])
        order = np.argsort(power, kind="stable") if order is None else order
        errors = np.concatenate([[0.0], np.cumsum(power[order])])
        return Elimination(order, {n: float(errors[dim.size - n]) for n in dim.options()}, {})

    def simulate_cut(self, dim: Dim, found: Elimination, size: int) -> dict[str, Tensor]:
        """Return parameters by name with which no weight reads what goes at one of refit_sizes.

        Plain layers are refitted; other weights are zero where they read it, as they are cut.
        Where there is no plain layer, or a recurrent one that reads its own state, what goes is not
        written either.
        """
        changes: dict[str, Tensor] = {}
        if readers := self.readers[dim.name]:
            for reader, weight in zip(readers, found.weights[size], strict=True):
                changes.update(reader.place_weight(self.net.module, weight))
        for slot, tensor in self._list_parameters(self.list_silenced(dim)):
            at = np.flatnonzero(np.isin(slot.owner, found.order[: dim.size - size]))
            new = changes.setdefault(slot.tensor, tensor.clone())
            new.index_fill_(slot.axis, torch.from_numpy(at).to(new.device), 0.0)
        return changes

    def list_silenced(self, dim: Dim) -> list[Slot]:
        """List the slots that a simulated cut sets to zero; plain layers read by none of them."""
        readers = self.readers[dim.name]
        refitted = {(reader.slot.tensor, reader.slot.axis) for reader in readers}
        roles: tuple[str, ...] = ("in",) if readers else ("out", "norm", "in")
        if any(reader.reads_state for reader in readers):
            roles = ("out", "in")
        return [s for s in dim.slots if s.role in roles and (s.tensor, s.axis) not in refitted]

    def _list_parameters(self, slots: Iterable[Slot]) -> list[tuple[Slot, Tensor]]:
        tensors = dict(self.net.module.named_parameters(remove_duplicate=False))
        return [(slot, tensors[slot.tensor].detach()) for slot in slots if slot.tensor in tensors]

    def measure_bypass(self, block: Block) -> float:
        """Fit the best linear map from a Block's skip to its join and return its error.

        A channel counts by what the layers that read its Dim make of it on average.
        """
        train, held_out = self.bypasses[block.name]
        channels = train.xy.shape[1]
        fit = fit_ridge(train, held_out, torch.eye(channels, dtype=torch.float64)[None])
        everything = train + held_out
        x0, y0 = everything.x / everything.rows, everything.y / everything.rows
        xx, xy, yy = everything.center_at(x0, y0)
        error = yy[0] + ((xx[0] @ fit.weight[0] - 2 * xy[0]) * fit.weight[0]).sum(0)
        return float(error.clamp_min(0) @ self._weigh_channels(block, channels))

    def _weigh_channels(self, block: Block, channels: int) -> Tensor:
        """Average the squared weights by which layers read a Block's join: [channels]."""
        node = next(n for n in self.net.program.graph.nodes if n.name == block.join)
        joined = {a for axis in self.net.axis_map.axes[node] for a in atoms_of(axis)}
        total, count = torch.zeros(channels, dtype=torch.float64), 0
        for name, readers in self.readers.items():
            if self.net.atoms[name] in joined and self.net.dims[name].size == channels:
                for reader in readers:
                    power = reader.read_weight(self.net.module).square().sum(0)
                    if len(power) % channels == 0:
                        total += power.reshape(channels, -1).sum(1)
                        count += 1
        return total / count if count else total + 1.0


def _weigh_states(
    readers: Sequence[ReaderStatistics], linear: Sequence[LinearReader]
) -> list[float]:
    """Return a factor for every reader's weights; one but for what reads a recurrent state.

    The sums that enter gates are of another scale than what layers make of the state, and there are
    many of them: their outputs count as much together as those of a layer, on average.
    """
    if not any(reader.reads_state for reader in readers):
        return [1.0] * len(readers)
    power = [float(((r.weight @ r.gram) * r.weight).sum()) for r in linear]
    plain = [p for p, reader in zip(power, readers) if not reader.reads_state]
    level = sum(plain) / max(len(plain), 1)
    return [
        float(np.sqrt(level / p)) if reader.reads_state and min(level, p) > 0 else 1.0
        for p, reader in zip(power, readers)
    ]


@torch.no_grad()
def collect_statistics(
    net: Network, batches: Iterable[Batch] | NetworkCalls, spatial_samples: int
) -> CalibrationStatistics:
    """Run the dense network over batches; every fifth sample is held out to choose ridges.

    Args:
        net: In evaluation mode.
        batches: Calibration samples, or what the network is called with on them.
        spatial_samples: Positions used of each sample, drawn at random.
    """
    calls = NetworkCalls.record(Task(), net.module, batches)
    inputs = [chunk for arguments in calls.arguments for chunk in split_arguments(arguments)]
    readers_of = _find_plain_reads(net)
    slots = {
        name: [s for s in dim.slots if s.role == "in" and s.tensor in readers_of]
        for name, dim in net.dims.items()
    }
    used = {s.tensor: readers_of[s.tensor] for found in slots.values() for s in found}
    names = {
        name
        for reads in used.values()
        for read in reads
        for name in (read.result.name, *read.needs)
    }
    names.update(name for b in net.blocks.values() for name in (b.skip, b.join))
    sums: dict[str, list[Moments]] = {}
    bypasses: dict[str, list[Moments]] = {}
    for k, values in enumerate(StagedExecution(net.module, inputs).values(names)):
        for tensor, reads in used.items():
            for i, read in enumerate(reads):
                x = read.read_value(values)
                y = x if read.step is not None else values[read.result.name]  # for its shape alone
                again = (i,) if i else ()  # positions of a first call are drawn as they always were
                at = draw_positions(read.form, y, spatial_samples, tensor, k, *again)
                rows = read.form.sample_inputs(x, y.shape, at)
                _add_rows(sums, tensor, rows, rows[..., :0])
        for name, block in net.blocks.items():
            x, y = (_sample_rows(values[n], spatial_samples, name, k)
                    for n in (block.skip, block.join))  # fmt: skip
            _add_rows(bypasses, name, x, y)
    readers = {
        name: [_summarize_reader(net, readers_of[s.tensor][0], s, sums[s.tensor]) for s in found]
        for name, found in slots.items()
    }
    return CalibrationStatistics(net, readers, bypasses)


def split_arguments(arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Split a call into several of few samples, where every tensor has one row for each."""
    rows = {len(a) if a.ndim else -1 for a in arguments if isinstance(a, Tensor)}
    count = rows.pop() if len(rows) == 1 else -1
    if count <= CHUNK:
        return [arguments]
    return [
        tuple(a[k : k + CHUNK] if isinstance(a, Tensor) else a for a in arguments)
        for k in range(0, count, CHUNK)
    ]


def _find_plain_reads(net: Network) -> dict[str, list[LinearRead]]:
    """Map weights' names to the operators that read one axis of a value by all of the weight.

    Where a weight is read several times, one batch norm or none is behind all of the operators.
    """
    shapes, calls = get_shapes(net), dict[str, list[LinearRead]]()
    views = WeightViews(net.module)
    for _, reads in find_reads(net.module, views, shapes):
        for read in reads:
            if read.is_whole:
                name = read.weight.name
                calls.setdefault(net.program.tied.get(name, name), []).append(read)

    def list_norms(reads: list[LinearRead]) -> set[Any]:
        norms = [find_norm(net.module, read, shapes) for read in reads]
        return {(read.name, norm and norm.target) for read, norm in zip(reads, norms)}

    return {name: reads for name, reads in calls.items() if len(list_norms(reads)) == 1}


def _add_rows(sums: dict[str, list[Moments]], key: str, x: Tensor, y: Tensor) -> None:
    """Add [images, positions, channels, ...] to moments: four images of five, and the fifth."""
    held_out = mark_holdout(x)
    if key not in sums:
        sums[key] = [Moments(1, x[0, 0].numel(), y.shape[-1]) for _ in range(2)]
    for part, chosen in zip(sums[key], (~held_out, held_out), strict=True):
        part.add(*(rows[chosen].flatten(0, 1).flatten(1)[None] for rows in (x, y)))


def _summarize_reader(
    net: Network, read: LinearRead, slot: Slot, sums: Sequence[Moments]
) -> ReaderStatistics:
    train, held_out = sums
    mean, norm = train.x[0] / train.rows, find_norm(net.module, read, get_shapes(net))
    if read.bias is None and norm is None:
        mean = torch.zeros_like(mean)
    about = (mean[None], train.y / train.rows)
    other = held_out.center_at(*about)[0][0] if held_out.rows else None
    return ReaderStatistics(read, norm, slot, mean, train.center_at(*about)[0][0], other)


def _sample_rows(values: Tensor, count: int, name: str, chunk: int) -> Tensor:
    """Sample positions of maps, or of rows with channels last: [images, positions, channels]."""
    rows = values.movedim(1 if values.ndim == 4 else -1, -1)
    rows = rows.reshape(len(rows), -1, rows.shape[-1])
    rng = make_generator("places", name, chunk)  # the former name: seeds stay
    return rows[:, torch.randperm(rows.shape[1], generator=rng)[:count].to(rows.device)]
