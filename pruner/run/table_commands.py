"""What ``msprune tables`` says of latency tables, and does with them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latency_tables import LatencyTable, LayerSpec, Library, join_tables, library_folder

from ..errors import PrunerError


def run_action(action: str, paths: Sequence[str], library: str | None, out: str | None) -> str:
    """Do what `msprune tables` was asked for: list, show, merge or diff."""
    if action == "list":
        return list_tables(library)
    if action == "show":
        return "\n\n".join(show_table(path) for path in require_paths(paths))
    if action == "merge":
        return merge_tables(require_paths(paths, 2), out)
    return compare_tables(*require_paths(paths, 2, 2))


def require_paths(paths: Sequence[str], least: int = 1, most: int | None = None) -> Sequence[str]:
    """Return the paths, or raise PrunerError where there are too few or too many."""
    if len(paths) < least or (most is not None and len(paths) > most):
        wanted = f"{least}" if most == least else f"{least} or more"
        raise PrunerError(f"{len(paths)} tables given; give {wanted}")
    return paths


def list_tables(library: str | None) -> str:
    """List the tables that networks share, one a line."""
    folder = Path(library) if library is not None else library_folder()
    lines = []
    for place in Library(folder).places():
        table = LatencyTable.load(place)
        networks = len({reading.network for reading in table.readings})
        lines.append(
            f"{place}\n  {table.device}\n  {len(table.readings)} structures of {networks} "
            f"networks, {len(table.specs)} kinds of layers"
        )
    return "\n".join(lines) or f"no tables in {folder}: msprune measure MODEL --out RUN"


def show_table(path: str) -> str:
    """Describe a table: device, error, notes, and its kinds of layers with what they were timed at.

    "goes with total^s": how it depends on the network around it (``LatencyTable.size_exponent``).
    """
    table = LatencyTable.load(path)
    lines = [f"{path}: {table.device}"]
    if table.created:
        lines.append(f"  measured {table.created}")
    lines.append(f"  {len(table.readings)} structures; {table.overhead_ms:.3g} ms beyond its cells")
    if table.error is not None:
        lines.append(f"  predictions are off by {table.error}")
    lines += [f"  note: {note}" for note in table.notes]
    for spec, sizes, ms in _collect_samples(table):
        low, high = sizes.min(axis=0), sizes.max(axis=0)
        widths = ", ".join(
            f"{name} {a}-{b}" for name, a, b in zip(spec.sizes, low, high, strict=True)
        )
        exponent = table.size_exponent(spec)
        range_ms = f"{min(ms):.3g}-{max(ms):.3g} ms, goes with total^{exponent:.2f}"
        lines.append(f"  {spec}\n    {len(ms)} samples, {widths}: {range_ms}")
    return "\n".join(lines)


def merge_tables(paths: Sequence[str], out: str | None) -> str:
    """Write all readings of some tables, of one device, as one."""
    if out is None:
        raise PrunerError("merge needs a folder for the result: give --out DIR")
    first = LatencyTable.load(paths[0])
    table = join_tables([first, *(LatencyTable.load(path, first.device) for path in paths[1:])])
    table.save(out)
    return f"{out}: {len(table.readings)} structures, {len(table.specs)} kinds of layers"


def compare_tables(left: str, right: str) -> str:
    """Compare the predictions of two tables by kind of layer, the most different first."""
    tables = LatencyTable.load(left), LatencyTable.load(right)
    lines = [f"{path}: {table.device}" for path, table in zip((left, right), tables, strict=True)]
    rows = []
    for spec, sizes, _ in _collect_samples(tables[0]):
        if spec in tables[1].specs:
            ratio = tables[1].predict(spec, sizes) / tables[0].predict(spec, sizes)
            rows.append((float(np.median(ratio)), spec))
    only = [len(set(a.specs) - set(b.specs)) for a, b in (tables, tables[::-1])]
    lines.append(
        f"{len(rows)} kinds of layers in both, {only[0]} and {only[1]} in one; second to first:"
    )
    rows.sort(key=lambda row: -abs(np.log(row[0])))
    return "\n".join(lines + [f"  {ratio:.3f}x  {spec}" for ratio, spec in rows])


def _collect_samples(table: LatencyTable) -> list[tuple[LayerSpec, np.ndarray, list[float]]]:
    """Collect, by kind of layer, the widths that it was timed at [n, k] and milliseconds [n]."""
    found: dict[LayerSpec, tuple[list[tuple[int, ...]], list[float]]] = {}
    for sample in table.samples:
        widths, ms = found.setdefault(sample.spec, ([], []))
        widths.append(sample.sizes)
        ms.append(sample.latency_ms)
    return [(spec, np.array(widths), ms) for spec, (widths, ms) in found.items()]
