"""Random structures of a network, what other latency models say of them, and how far off."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import latency_tables
import pruner
from latency_tables import Engine, LatencyTable, Reading, Timing, measure_structure
from latency_tables.regression import DRIFTED, Journal, find_usual_ms, remove_drift
from pruner import Network
from pruner.data import ImageData, open_images
from pruner.models import DenseModel
from pruner.search import SolveConfig, choose
from pruner.utils import ProgressDisplay

from . import record
from .alone import split_graph, split_onnx, time_alone

LEAST, MOST = 0.2, 1.0  # of the dense latency
BUDGETS = ("70%", "50%", "30%")
VISITS = 2
ROUNDS = 40
_DRAWS = 60
_REPEATED = 2


@dataclass(frozen=True)
class Structure:
    """The size of every Dim, and the blocks that are left out."""

    sizes: Mapping[str, int]
    dropped: tuple[str, ...]


def trace_network(name: str, batch: int, side: int, **arguments: Any) -> Network:
    """Trace a network of timm or torchvision, by its MODEL string, with random weights."""
    module = record.build_module(name, **arguments).eval()
    return pruner.trace(module, (torch.rand(batch, 3, side, side),), name=name)


def open_dataset(folder: Path, side: int, dense: DenseModel) -> ImageData:
    """Open the images of a folder as a network wants them."""
    how = {name: getattr(dense.preset, name) for name in ("mean", "std", "crop", "interpolation")}
    return open_images(folder, side, **how)


def time_in_turn(
    net: Network, plan: pruner.Plan, engine: Engine, rounds: int = ROUNDS
) -> tuple[Timing, Timing]:
    """Time the uncut network and a plan's in turn."""
    probes = {"dense": net.probe({}), "pruned": net.probe(plan.sizes(), plan.dropped_blocks())}
    timings = latency_tables.compare(engine, probes, rounds)
    return timings["dense"], timings["pruned"]


def draw_structures(
    net: Network, table: LatencyTable, count: int, seed: int, before: Sequence[Structure] = ()
) -> list[Structure]:
    """Draw random structures, spread evenly between ``LEAST`` and ``MOST`` of the dense latency.

    Every Dim has a width of its own around a common level, every third structure drops blocks; of
    many draws the one is taken that the table thinks nearest to its turn. The first ones are those
    that were timed before, when the table may have thought otherwise.
    """
    random = np.random.default_rng([seed, 40])
    dense = table.uncut_ms(net)
    calibration = table.calibration(net)
    specs = {cell.name: cell.spec for cell in net.cells()}
    chosen: list[Structure] = []
    for index, target in enumerate(np.linspace(LEAST, MOST, count)):
        best: tuple[float, Structure] | None = None
        for _ in range(_DRAWS):
            one = _draw(net, random, drops=index % 3 == 1)
            cells = net.cell_sizes(one.sizes, one.dropped)
            total = table.predict_total((specs[name], widths) for name, widths in cells.items())
            off = abs(calibration.total_ms(total) / dense - float(target))
            if one not in chosen and (best is None or off < best[0]):
                best = (off, one)
        if best is not None:
            chosen.append(best[1])
    return [*before[:count], *chosen[len(before) :]]


def read_structures(net: Network, engine: Engine, folder: Path) -> list[Structure]:
    """Read which structures ``time_structures`` has timed in this folder, in that order."""
    uncut = {name: options[-1] for name, options in net.sizes().items()}
    timed = _group_readings(_open_journal(net, engine, folder))
    return [Structure({**uncut, **dict(sizes)}, dropped) for sizes, dropped in timed]


def _open_journal(net: Network, engine: Engine, folder: Path) -> Journal:
    return Journal(folder / "unseen", engine.device.at_batch(net.probe({}).batch))


def _group_readings(journal: Journal) -> dict[Any, list[Reading]]:
    """Return the visits of every structure, by the sizes of its cut Dims and its dropped blocks."""
    found: dict[Any, list[Reading]] = {}
    for reading in journal.readings:
        key = tuple(sorted(reading.sizes.items())), tuple(reading.dropped)
        found.setdefault(key, []).append(reading)
    return found


def _draw(net: Network, random: np.random.Generator, drops: bool) -> Structure:
    level = random.uniform()
    sizes = {}
    for name, options in net.sizes().items():
        place = np.clip(level + random.uniform(-0.35, 0.35), 0, 1)
        sizes[name] = options[round(float(place) * (len(options) - 1))]
    share = random.uniform(0, 0.5) if drops else 0.0
    return Structure(sizes, tuple(b for b in net.removable() if random.uniform() < share))


def time_structures(
    net: Network,
    engine: Engine,
    structures: list[Structure],
    folder: Path,
    table: LatencyTable,
    quick: bool,
) -> list[tuple[Reading, ...]]:
    """Time structures in ``VISITS`` passes over all of them, each visit on disk before the next.

    What is there is not timed again, but for visits next to which the uncut network ran at another
    speed than when the table was measured: those are repeated, one a structure and call, and up to
    ``_REPEATED`` in all. Returns for each structure the ``VISITS`` visits of the steadiest machine.
    """
    journal = _open_journal(net, engine, folder)
    known = _group_readings(journal)
    uncut = {name: options[-1] for name, options in net.sizes().items()}
    usual = table.uncut_ms(net)
    cuts = [{n: s for n, s in one.sizes.items() if s != uncut[n]} for one in structures]
    own = [
        known.get((tuple(sorted(cut.items())), one.dropped), [])
        for cut, one in zip(cuts, structures)
    ]
    for number in range(VISITS + 1):  # the last one repeats
        for cut, one, visits in zip(cuts, structures, own):
            drifted = sum(reading.drift(usual) > DRIFTED for reading in visits)
            steady = len(visits) - drifted
            if len(visits) <= number < VISITS or (
                number == VISITS and steady < VISITS and len(visits) < VISITS + _REPEATED
            ):
                reading = measure_structure(net, engine, cut, one.dropped, quick=quick, builds=1)
                journal.append(reading)
                visits.append(reading)
    return [tuple(sorted(v, key=lambda r: r.drift(usual))[:VISITS]) for v in own]


def remove_drifts(table: LatencyTable, readings: Sequence[Reading]) -> list[float]:
    """Return milliseconds at the speed that the machine had when the table was measured.

    The uncut network, timed in turn with each, tells how far it has drifted since.
    """
    usual = find_usual_ms(table.readings)
    return [remove_drift(r, usual[r.network], table.drift_attenuation) for r in readings]


def solve(
    net: Network, table: LatencyTable, engine: Engine, scores: Any, budget: str
) -> tuple[dict[str, Any], pruner.Plan | None]:
    """Do what ``msprune solve --margin auto`` does: return all its rounds, and the plan it takes.

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


def describe_gap(solved: dict[str, Any], structure: dict[str, Any]) -> str:
    """Say how much slower than predicted a structure is, how far over budget, in what rounds."""
    if "measured_ms" not in structure:
        return str(solved["status"])
    text = f"{structure['measured_ms'] / structure['predicted_ms'] - 1:+.1%}"
    over = structure["measured_ms"] / solved["budget_ms"] - 1
    text += f" (over by {over:.1%})" if over > 0 else ""
    return text + (f" in {structure['rounds']}" if "rounds" in structure else "")


def predict_in_place(table: LatencyTable, reading: Reading) -> float:
    """Return what the table says, in milliseconds."""
    return table.predict_total(((c.spec, c.sizes) for c in reading.cells), reading.network)


def predict_frozen_linear(net: Network, table: LatencyTable, reading: Reading) -> float:
    """Predict by HALP's model (arXiv 2210.06659, section 3.2).

    With its input width frozen, every output channel of a layer costs the same. The dense cells
    are the table's, scaled to its dense.
    """
    dense = {cell.name: (cell.spec, cell.dense_sizes) for cell in net.cells()}
    cost = {name: float(table.predict(spec, [own])[0]) for name, (spec, own) in dense.items()}
    total = sum(cost[c.cell] * c.sizes[-1] / dense[c.cell][1][-1] for c in reading.cells)
    return total * table.uncut_ms(net) / sum(cost.values())


def sum_cells(
    net: Network, engine: Engine, readings: Sequence[Reading], folder: Path
) -> list[float]:
    """Return the sum of each structure's cells, each timed alone at its widths.

    So tables are made elsewhere. What was timed before, in this folder, is kept there.
    """
    file = folder / "alone.json"
    done: dict[str, float] = record.read_json(file, {})
    known: dict[Any, float] = {}
    for reading in readings:
        if reading.key not in done:
            done[reading.key] = _sum_alone(net, engine, reading, known)
            record.write_result(file, json.dumps(done))
    return [done[reading.key] for reading in readings]


def _sum_alone(net: Network, engine: Engine, reading: Reading, known: dict[Any, float]) -> float:
    """known: (specification, widths) -> milliseconds; what was timed is not timed again."""
    wanted = {c.cell: (c.spec, c.sizes) for c in reading.cells}
    missing = {cell for cell, key in wanted.items() if key not in known}
    if missing:
        probe = net.probe(dict(reading.sizes), reading.dropped)
        part = split_graph(probe) if engine.name == "torch" else split_onnx(probe)
        for cell in missing:
            own = part(cell)
            known.setdefault(wanted[cell], 0.0 if own is None else time_alone(own, engine))
    return sum(known[key] for key in wanted.values())


def summarize_errors(predicted: list[float], actual: list[float]) -> dict[str, float]:
    """Return figures of the relative error, and Spearman's rank correlation."""
    error = np.abs(np.array(predicted) / np.array(actual) - 1)
    return {
        "median": float(np.median(error)),
        "p95": float(np.percentile(error, 95)),
        "worst": float(error.max()),
        "rank": float(spearmanr(predicted, actual)[0]) if len(error) > 2 else float("nan"),
        "structures": len(error),
    }
