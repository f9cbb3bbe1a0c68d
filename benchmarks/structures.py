"""Random structures of a network, what other latency models say of them, and how far off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pruner
from latency_tables import Engine, LatencyTable, Reading, measure_structure
from latency_tables.regression import DRIFTED, Journal, find_usual_ms, remove_drift
from pruner import Network
from pruner.search import SolveConfig, choose
from pruner.utils import ProgressDisplay

from .alone import alone_ms, graph_parts, onnx_parts

LEAST, MOST = 0.2, 1.0  # of the dense latency
BUDGETS = ("70%", "50%", "30%")
VISITS = 2
_DRAWS = 60
_REPEATED = 2


@dataclass(frozen=True)
class Structure:
    sizes: Mapping[str, int]
    dropped: tuple[str, ...]


def unseen(
    net: Network, table: LatencyTable, count: int, seed: int, begun: Sequence[Structure] = ()
) -> list[Structure]:
    """Random structures, spread evenly between ``LEAST`` and ``MOST`` of the dense latency.

    Every Dim has a width of its own around a common level, every third structure drops blocks; of
    many draws the one is taken that the table thinks nearest to its turn. The first ones are those
    that were begun before, when the table may have thought otherwise.
    """
    random = np.random.default_rng([seed, 40])
    dense = table.uncut_ms(net)
    calibration = table.calibration(net)
    specs = {cell.name: cell.spec for cell in net.cells()}
    chosen: list[Structure] = []
    for index, target in enumerate(np.linspace(LEAST, MOST, count)):
        best: tuple[float, Structure] | None = None
        for _ in range(_DRAWS):
            drawn = _draw(net, random, drops=index % 3 == 1)
            cells = net.cell_sizes(drawn.sizes, drawn.dropped)
            total = table.predict_total((specs[name], widths) for name, widths in cells.items())
            off = abs(calibration.total_ms(total) / dense - float(target))
            if drawn not in chosen and (best is None or off < best[0]):
                best = (off, drawn)
        if best is not None:
            chosen.append(best[1])
    return [*begun[:count], *chosen[len(begun) :]]


def begun(net: Network, engine: Engine, folder: Path) -> list[Structure]:
    """The structures that ``measured`` has visited in this folder, in that order."""
    uncut = {name: options[-1] for name, options in net.sizes().items()}
    found: dict[Any, Structure] = {}
    for reading in _journal(net, engine, folder).readings:
        key = _key(reading.sizes), tuple(reading.dropped)
        found.setdefault(key, Structure({**uncut, **reading.sizes}, tuple(reading.dropped)))
    return list(found.values())


def _journal(net: Network, engine: Engine, folder: Path) -> Journal:
    return Journal(folder / "unseen", engine.device.at_batch(net.probe({}).batch))


def _draw(net: Network, random: np.random.Generator, drops: bool) -> Structure:
    level = random.uniform()
    sizes = {}
    for name, options in net.sizes().items():
        place = np.clip(level + random.uniform(-0.35, 0.35), 0, 1)
        sizes[name] = options[round(float(place) * (len(options) - 1))]
    share = random.uniform(0, 0.5) if drops else 0.0
    return Structure(sizes, tuple(b for b in net.removable() if random.uniform() < share))


def measured(
    net: Network,
    engine: Engine,
    structures: list[Structure],
    folder: Path,
    table: LatencyTable,
    quick: bool,
) -> list[tuple[Reading, ...]]:
    """Times structures in ``VISITS`` passes over all of them, each visit on disk before the next.

    What is there is not timed again, but for visits next to which the uncut network ran at another
    speed than when the table was measured: those are repeated, one a structure and call, and up to
    ``_REPEATED`` in all. Returns for each structure the ``VISITS`` visits of the steadiest machine.
    """
    journal = _journal(net, engine, folder)
    known: dict[Any, list[Reading]] = {}
    for reading in journal.readings:
        known.setdefault((_key(reading.sizes), tuple(reading.dropped)), []).append(reading)
    uncut = {name: options[-1] for name, options in net.sizes().items()}
    usual = table.uncut_ms(net)
    cuts = [{n: s for n, s in one.sizes.items() if s != uncut[n]} for one in structures]
    own = [known.get((_key(cut), one.dropped), []) for cut, one in zip(cuts, structures)]
    for number in range(VISITS + 1):  # the last one repeats
        for cut, structure, visits in zip(cuts, structures, own):
            drifted = sum(reading.drift(usual) > DRIFTED for reading in visits)
            steady = len(visits) - drifted
            if len(visits) <= number < VISITS or (
                number == VISITS and steady < VISITS and len(visits) < VISITS + _REPEATED
            ):
                reading = measure_structure(
                    net, engine, cut, structure.dropped, quick=quick, builds=1
                )
                journal.append(reading)
                visits.append(reading)
    return [tuple(sorted(v, key=lambda r: r.drift(usual))[:VISITS]) for v in own]


def _key(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))


def steady_ms(table: LatencyTable, readings: Sequence[Reading]) -> list[float]:
    """What structures take at the speed that the machine had when the table was measured.

    The uncut network, timed in turn with each, tells how far it has drifted since.
    """
    usual = find_usual_ms(table.readings)
    return [remove_drift(r, usual[r.network], table.drift_attenuation) for r in readings]


def solved(
    net: Network, table: LatencyTable, engine: Engine, scores: Any, budget: str
) -> tuple[dict[str, Any], pruner.Plan | None]:
    """What ``msprune solve --margin auto`` does for a budget: all its rounds, and what it takes.

    predicted_ms, measured_ms
        Of the first structure, which the table as it was measured led to.
    taken
        The same of the structure that is taken in the end, predicted by the table as the rounds
        before had corrected it; how many structures were measured; and whether it was warned of.
    """
    budget_ms = table.uncut_ms(net) * float(budget.rstrip("%")) / 100
    row: dict[str, Any] = {"budget": budget, "budget_ms": budget_ms}
    config = SolveConfig(margin="auto")
    try:
        found = choose(
            net, table, scores, engine, budget_ms, config, ProgressDisplay(), keep=lambda _: None
        )
    except pruner.PrunerError as error:
        return {**row, "status": str(error)}, None
    first, best = found.rounds[0], found.best
    return {
        **row,
        "status": best.solution.status.name,
        "predicted_ms": first.predicted_ms,
        "measured_ms": first.measured_ms,
        "taken": {
            "predicted_ms": best.predicted_ms,
            "measured_ms": best.measured_ms,
            "rounds": len(found.rounds),
            "warning": found.warning,
        },
    }, best.plan


def off_by(solved: dict[str, Any], structure: dict[str, Any]) -> str:
    """How much slower than predicted a structure for a budget is; by how much it is above the
    budget; in how many rounds it was found."""
    if "measured_ms" not in structure:
        return str(solved["status"])
    text = f"{structure['measured_ms'] / structure['predicted_ms'] - 1:+.1%}"
    over = structure["measured_ms"] / solved["budget_ms"] - 1
    text += f" (over by {over:.1%})" if over > 0 else ""
    return text + (f" in {structure['rounds']}" if "rounds" in structure else "")


def in_place(table: LatencyTable, reading: Reading) -> float:
    """What the table says, in milliseconds."""
    return table.predict_total(((c.spec, c.sizes) for c in reading.cells), reading.network)


def frozen_linear(net: Network, table: LatencyTable, reading: Reading) -> float:
    """HALP's model (arXiv 2210.06659, section 3.2): with its input width frozen, every output
    channel of a layer costs the same. The dense cells are the table's, scaled to its dense."""
    dense = {cell.name: (cell.spec, cell.dense_sizes) for cell in net.cells()}
    cost = {name: float(table.predict(spec, [own])[0]) for name, (spec, own) in dense.items()}
    total = sum(cost[c.cell] * c.sizes[-1] / dense[c.cell][1][-1] for c in reading.cells)
    return total * table.uncut_ms(net) / sum(cost.values())


def cell_by_cell(
    net: Network, engine: Engine, readings: Sequence[Reading], folder: Path
) -> list[float]:
    """The sum of each structure's cells, each timed alone at its widths, as tables are made
    elsewhere. What was timed before, in this folder, is kept there.
    """
    file = folder / "alone.json"
    done: dict[str, float] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    known: dict[Any, float] = {}
    for reading in readings:
        if reading.key not in done:
            done[reading.key] = _sum_alone(net, engine, reading, known)
            file.write_text(json.dumps(done), "utf-8")
    return [done[reading.key] for reading in readings]


def _sum_alone(net: Network, engine: Engine, reading: Reading, known: dict[Any, float]) -> float:
    """known: (specification, widths) -> milliseconds; what was timed is not timed again."""
    wanted = {c.cell: (c.spec, c.sizes) for c in reading.cells}
    missing = {cell for cell, key in wanted.items() if key not in known}
    if missing:
        probe = net.probe(dict(reading.sizes), reading.dropped)
        part = graph_parts(probe) if engine.name == "torch" else onnx_parts(probe)
        for cell in missing:
            own = part(cell)
            known.setdefault(wanted[cell], 0.0 if own is None else alone_ms(own, engine))
    return sum(known[key] for key in wanted.values())


def off(predicted: list[float], actual: list[float]) -> dict[str, float]:
    """Median, 95th percentile and worst of the relative error, Spearman's rank correlation, and of
    how many structures."""
    from scipy.stats import spearmanr

    p: NDArray[np.float64] = np.array(predicted)
    m: NDArray[np.float64] = np.array(actual)
    error = np.abs(p / m - 1)
    return {
        "median": float(np.median(error)),
        "p95": float(np.percentile(error, 95)),
        "worst": float(error.max()),
        "rank": float(spearmanr(p, m)[0]) if len(p) > 2 else float("nan"),
        "structures": len(p),
    }
