"""Finds the Dims of a graph: its free atoms, named, with every tensor axis that they cut."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from ..axes import MAP, Atom, Axis, AxisMap, atoms_of, axis_owners, owner_indices
from ..utils import choose_unused_name
from .dim_kinds import CHANNELS, GROUPS, HEADS, QK, V, classify_dims
from .network import Block, Dim, Frozen, LocatedCell, Slot
from .residual_blocks import find_shared_blocks, index_blocks

# Reasons that say nothing about the network's structure: not worth a line in the report.
_PLAIN = ("a kernel's extent", MAP, "the batch", "an input of the network",
          "a table of indices", "the gates of a cell")  # fmt: skip


def find_uncuttable(axis_map: AxisMap) -> dict[Atom, str]:
    """Return the atoms of tensors that cannot be Dims, with the reason.

    No weight writes them, or a position of some axis belongs to two of their indices.
    """
    writers, found = _find_writers(axis_map), {}
    for node in axis_map.tensor_nodes():
        for axis in axis_map.axes[node]:
            for atom, times in Counter(atoms_of(axis)).items():
                if times > 1 and not _has_one_owner(axis, atom):
                    found[atom] = "it occurs twice in one axis"
                elif atom not in writers:
                    found.setdefault(atom, "no weight writes it")
    return found


def _find_writers(axis_map: AxisMap) -> dict[Atom, list[str]]:
    """Return the tensors that write each atom, in the order of the graph."""
    writers: dict[Atom, list[str]] = defaultdict(list)
    for node in axis_map.tensor_nodes():
        for i, axis in enumerate(axis_map.axes[node]):
            if axis_map.roles.get((str(node.target), i)) == "out":
                for atom in dict.fromkeys(atoms_of(axis)):
                    writers[atom].append(str(node.target))
    return writers


def _has_one_owner(axis: Axis, atom: Atom) -> bool:
    """Return whether every position of an axis belongs to at most one index of an atom."""
    try:
        owner_indices(axis, atom)
    except ValueError:
        return False
    return True


def find_dims(
    axis_map: AxisMap, step: int | None, all_blocks: Mapping[str, Block]
) -> tuple[dict[str, Dim], dict[str, Atom]]:
    """Return a Dim for every free atom that some weight writes, without slots, and its atom.

    A Dim of an attention or of groups is named after its place and kind (``blocks.0.attn.heads``),
    any other after the first weight that writes it (``blocks.0.mlp.fc1``).
    """
    dims: dict[str, Dim] = {}
    by_name: dict[str, Atom] = {}
    kind_of = classify_dims(axis_map, all_blocks)
    for atom, tensors in _find_writers(axis_map).items():
        if atom.reason is not None:
            continue
        kind, place = kind_of.get(atom, (CHANNELS, ""))
        if kind in (HEADS, QK, V, GROUPS):
            name = f"{place}.{kind}" if place else kind
        else:
            name = tensors[0].rpartition(".")[0] or tensors[0]
        name = choose_unused_name(name, dims)
        dims[name] = Dim(name, atom.size, _choose_step(atom.size, step), (), kind)
        by_name[name] = atom
    return dims, by_name


def _choose_step(size: int, step: int | None) -> int:
    """Return the step of the sizes: the given one, else a power of two, about an eighth of size."""
    if step is not None:
        return min(step, size)
    power = 1
    while power < 8 and power * 16 <= size:
        power *= 2
    return power


def attach_slots(
    axis_map: AxisMap,
    dims: Mapping[str, Dim],
    by_name: Mapping[str, Atom],
    all_blocks: Mapping[str, Block],
    located: tuple[LocatedCell, ...],
) -> dict[str, Dim]:
    """Return the Dims with every tensor axis that they cut."""
    name_of = {atom: name for name, atom in by_name.items()}
    cell_of = {node: p.cell.name for p in located for node in p.nodes}
    around = index_blocks(all_blocks)
    slots: dict[str, list[Slot]] = defaultdict(list)
    for node in axis_map.tensor_nodes():
        readers = dict.fromkeys(user.name for user in node.users)
        inside = find_shared_blocks(readers, around)
        known = axis_map.readers.get(str(node.target), readers)  # of the weight computed from it
        cell = next((cell_of[name] for name in known if name in cell_of), None)
        for i, axis in enumerate(axis_map.axes[node]):
            if not any(atom in name_of for atom in atoms_of(axis)):
                continue
            role = axis_map.roles.get((str(node.target), i), "other")
            for atom, positions in axis_owners(axis).items():
                if atom in name_of:
                    slot = Slot(str(node.target), i, positions, role, cell, inside)
                    slots[name_of[atom]].append(slot)
    return {name: replace(dim, slots=tuple(slots[name])) for name, dim in dims.items()}


def list_frozen(axis_map: AxisMap) -> tuple[Frozen, ...]:
    """Return why axes cannot be cut, with the tensors that each reason locks."""
    locked: dict[str, dict[str, None]] = defaultdict(dict)
    for node in axis_map.tensor_nodes():
        for i, axis in enumerate(axis_map.axes[node]):
            for atom in atoms_of(axis):
                reason = _name_reason(axis_map, atom, (str(node.target), i))
                if reason is not None:
                    locked[reason][str(node.target)] = None
    read = {str(node.target) for node in axis_map.tensor_nodes()}
    for name, tensor in axis_map.program.tensors.items():
        if name not in read and isinstance(tensor, nn.Parameter):
            locked["no operator reads it in evaluation"][name] = None
    return tuple(Frozen(reason, tuple(tensors)) for reason, tensors in locked.items())


def _name_reason(axis_map: AxisMap, atom: Atom, place: tuple[str, int]) -> str | None:
    """Return why an atom of a tensor's axis is frozen; None where that is only to be expected.

    A map's extent is, unless it is also the axis along which a weight writes its channels.
    """
    if atom.reason == MAP and axis_map.roles.get(place) == "out":
        return "channels that an operator works along as along a feature map"
    return None if atom.reason in _PLAIN else atom.reason
