"""How others would prune, each as a way from a knob between 0 and 1 to a Plan.

All of them cut the same traced network, so that whatever follows (materializing, repair, tuning,
timing) is the same for all: what is compared is which structure and which channels they pick.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

import pruner
import solver
from latency_tables import LatencyTable
from pruner import Importance, Network, Plan
from pruner.problem import LATENCY
from pruner.search import STEPS
from pruner.surgery import replace_tensors, silence_removed
from pruner.tasks import Task, extract_scores
from pruner.tuning import evaluate, recalibrate

from . import record

Batches = Sequence[tuple[Any, Any]]
TIME_LIMIT_S = 120.0
TRIALS = 40


@dataclass(frozen=True)
class Setting:
    """A network with its weights, its table, and the samples that scores may look at.

    model is the network as its author wrote it; folder keeps scores that take long; tuned says
    whether what is chosen will be tuned, or repaired only; task says how outputs are judged (None:
    they are class scores of images). The table is measured when it is first asked for: who tunes
    what was chosen elsewhere needs none.
    """

    model: nn.Module
    net: Network
    measure: Callable[[], LatencyTable]
    batches: Batches
    folder: Path
    tuned: bool = True
    task: Task | None = None

    @cached_property
    def table(self) -> LatencyTable:
        """The latency table of its network."""
        return self.measure()

    def score(self, net: Network, criterion: str) -> Importance:
        """Score a network of the same kind, this one or one that was made of it."""
        loss = compute_loss if self.task is None else None
        return pruner.score(net, self.batches, loss, criterion, task=self.task)


@dataclass(frozen=True)
class Method:
    """plan(knob) keeps more, the larger the knob in (0, 1]; net is what the plans cut.

    repairs says whether least-squares repair belongs to the method; the others get their batch
    norms recalibrated. monotone: whether latency grows with the knob. find_candidates
    gives, for a share of the latency, structures that were tried at it, the best first.
    """

    net: Network
    plan: Callable[[float], Plan]
    repairs: bool = False
    monotone: bool = True
    find_candidates: Callable[[float], Sequence[Plan]] = lambda share: ()


def compute_loss(results: Any, labels: torch.Tensor) -> torch.Tensor:
    """Compute the loss of whatever the network returns."""
    return cross_entropy(extract_scores(results), labels)


def make_msprune(setting: Setting, criterion: str, trials: int = 0) -> Method:
    """Prune by this package: linear streams rotated, widths and blocks solved for together.

    With trials, structures are tried for every share of the latency.
    """
    net = pruner.rotate(setting.net, setting.batches, task=setting.task)
    path = setting.folder / f"scores-{criterion}.safetensors"

    @cache
    def read_scores() -> Importance:
        if not path.is_file():
            setting.score(net, criterion).save(path)
        return Importance.load(path)

    def plan(knob: float) -> Plan:
        problem = pruner.formulate(net, setting.table, read_scores(), f"{100 * knob}%")
        return _solve(net, problem, read_scores())

    def find_candidates(share: float) -> list[Plan]:
        percent = f"{100 * share:g}"
        file = setting.folder / f"trials-{criterion}-{trials}-{percent}.json"
        if not file.is_file():
            found = pruner.evaluate_candidates(
                net, setting.table, read_scores(), setting.batches, f"{percent}%", trials,
                task=setting.task, steps=STEPS * setting.tuned,
                journal=file.with_suffix(".txt"),
            )  # fmt: skip
            rows = [{"loss": t.loss, "plan": json.loads(t.plan.to_json())} for t in found]
            record.write_result(file, json.dumps(rows))
        return [Plan.from_json(json.dumps(row["plan"])) for row in record.read_json(file, [])]

    method = Method(net, plan, repairs=True)
    return replace(method, find_candidates=find_candidates) if trials else method


def make_mdp(setting: Setting) -> Method:
    """Prune by MDP as published (arXiv 2406.12079): Taylor, one pass, convolutions' costs only."""
    net = setting.net
    read_scores = cache(lambda: setting.score(net, "taylor"))
    counted = {cell.name for cell in net.cells() if "conv" in cell.spec.operator}

    def plan(knob: float) -> Plan:
        problem = pruner.formulate(net, setting.table, read_scores(), "100%")
        tables = [t if t.name in counted else replace(t, cost={}) for t in problem.tables]
        # All widths and blocks, and the longest of every concatenation.
        dense = {variable: count - 1 for variable, count in problem.options.items()}
        total = replace(problem, tables=tables).evaluate(dense)[1][LATENCY]
        problem = replace(problem, tables=tables, budgets={LATENCY: knob * total})
        return _solve(net, problem, read_scores())

    return Method(net, plan)


def make_halp(setting: Setting, rounds: int = 30, least: float = 0.15) -> Method:
    """Prune by HALP (arXiv 2210.06659): Taylor, and a knapsack a round.

    A channel's cost is that at frozen input widths. The budget falls from round to round; scores
    and costs are those of what the round before left. No training in between: all methods are tuned
    alike, afterwards.
    """
    net = setting.net
    shares = np.geomspace(1.0, least, rounds + 1)[1:]
    scored: list[tuple[Plan, Importance]] = []

    def score_plan(plan: Plan) -> Importance:
        masked = silence_removed(net.module, net, plan)
        # Or the cut network's gradients would mean little.
        recalibrate(masked, setting.batches, setting.task)
        known = {**dict(masked.named_parameters()), **dict(masked.named_buffers())}
        values = {name: known[name].detach() for name in net.program.tensors if name in known}
        return setting.score(replace_tensors(net, values), "taylor")

    step = partial(_solve_knapsack, net, setting.table)

    def plan(knob: float) -> Plan:
        # The last round of a budget above the knob.
        number = min(int(np.searchsorted(-shares, -knob)), rounds)
        while len(scored) <= number:
            kept = step(*scored[-1], float(shares[len(scored) - 1])) if scored else Plan.dense(net)
            scored.append((kept, score_plan(kept)))
        return step(*scored[number], knob)

    return Method(net, plan)


def _solve_knapsack(
    net: Network, table: LatencyTable, before: Plan, scores: Importance, share: float
) -> Plan:
    """Choose most importance within a share of the latency, input widths frozen at ``before``.

    Where by that reckoning nothing fits, the least.
    """
    sizes = before.sizes()
    base = net.cell_sizes(sizes, before.dropped_blocks())
    specs = {cell.name: cell.spec for cell in net.cells()}

    def predict_ms(cell: str, widths: tuple[int, ...]) -> float:
        return float(table.predict(specs[cell], [widths])[0])

    least = sum(predict_ms(cell, widths) for cell, widths in base.items())
    tables, choices = [], {}
    for name, dim in net.dims.items():
        choices[name] = [n for n in dim.options() if n <= sizes[name]] or [dim.options()[0]]
        writers = {s.cell for s in dim.slots if s.role == "out" and s.cell in base}
        cost = []
        for n in choices[name]:
            widths = net.cell_sizes({**sizes, name: n}, before.dropped_blocks())
            # The writer's output narrows; what it reads stays as it was.
            rows = {str(c): (*base[str(c)][:-1], widths[str(c)][-1]) for c in writers}
            cost.append(sum(predict_ms(cell, row) for cell, row in rows.items()))
        least -= cost[-1] - min(cost)
        kept = np.concatenate([[0.0], np.cumsum(np.sort(scores.total(name))[::-1])])
        above = {LATENCY: np.array(cost) - min(cost)}
        tables.append(solver.Table(name, (name,), kept[choices[name]], above))
    dense = sum(predict_ms(cell.name, cell.dense_sizes) for cell in net.cells())
    limit = max(share * dense - least, 0.0)
    options = {name: len(own) for name, own in choices.items()}
    problem = solver.Problem(net.name, options, tables, {LATENCY: limit})
    answer = solver.solve(problem, time_limit_s=TIME_LIMIT_S)
    assert answer.choice is not None  # the least of every Dim costs nothing
    keep = {}
    for name, dim in net.dims.items():
        alive = np.zeros(dim.size, bool)
        alive[list(before.keep[name])] = True
        order = np.argsort(np.where(alive, -scores.total(name), np.inf), kind="stable")
        keep[name] = tuple(sorted(order[: choices[name][answer.choice[name]]].tolist()))
    return Plan(keep, before.blocks)


def make_uniform(setting: Setting) -> Method:
    """Keep the same share of every Dim, the largest by L1 norm.

    Dims of one size would all change their width at once, and few latencies could be met: what each
    is rounded at is spread evenly.
    """
    scores = pruner.score(setting.net, None, None, "magnitude")
    dims = setting.net.dims
    offsets = dict(zip(dims, (np.arange(len(dims)) + 0.5) / len(dims)))

    def plan(knob: float) -> Plan:
        sizes = {}
        for name, dim in dims.items():
            options = dim.options()
            place = int(np.floor(knob * len(options) + offsets[name])) - 1
            sizes[name] = options[min(max(place, 0), len(options) - 1)]
        return _keep_best(setting.net, scores, sizes)

    return Method(setting.net, plan)


def make_global_magnitude(setting: Setting) -> Method:
    """Set one threshold for all Dims on the L2 norm of an index, relative to its Dim's mean."""
    net = setting.net
    scores = pruner.score(net, None, None, "l2")
    relative = {name: scores.total(name) / (scores.total(name).mean() or 1.0) for name in net.dims}
    everything = np.sort(np.concatenate(list(relative.values())))

    def plan(knob: float) -> Plan:
        place = min(int((1 - knob) * len(everything)), len(everything) - 1)
        sizes = {}
        for name, dim in net.dims.items():
            count = int((relative[name] >= everything[place]).sum())
            sizes[name] = min(dim.options(), key=lambda n: abs(n - count))
        return _keep_best(net, scores, sizes)

    return Method(net, plan)


def make_torch_pruning(setting: Setting, kind: str) -> Method:
    """Prune by Torch-Pruning 1.6.1.

    kind: ``taylor`` (global), ``local_taylor`` (the same ratio in every layer), ``isomorphic``
    (global within like groups, Taylor) or ``group_norm`` (local).

    Its pruner runs on the author's module; the channels that it takes are read off its history.
    Where it couples the layers along a residual stream otherwise than the network does, and leaves
    a network that cannot run, it is given the inner widths only.
    """
    streams = {
        slot.tensor.rpartition(".")[0]
        for dim in setting.net.dims.values() if dim.kind == "stream"
        for slot in dim.slots if slot.role == "out"
    }  # fmt: skip
    inner = False
    scored = copy.deepcopy(setting.model).eval()

    @cache
    def compute_gradients() -> None:
        with torch.enable_grad():
            for inputs, labels in setting.batches:
                compute_loss(scored(inputs), labels).backward()

    def plan(knob: float) -> Plan:
        nonlocal inner
        if kind != "group_norm":
            compute_gradients()
        if not inner:
            try:
                return _choose_by_torch_pruning(setting, scored, kind, knob, set())
            except (pruner.PlanError, RuntimeError) as error:
                print(f"  torch-pruning keeps the residual streams: {str(error)[:150]}")
                inner = True
        return _choose_by_torch_pruning(setting, scored, kind, knob, streams)

    # Its widths are rounded, and groups of layers compete: a smaller ratio may be slower.
    return Method(setting.net, plan, monotone=False)


def _choose_by_torch_pruning(
    setting: Setting, scored: nn.Module, kind: str, knob: float, kept: set[str]
) -> Plan:
    """Scored is the author's module, with gradients where the kind looks at them."""
    import torch_pruning as tp

    model = copy.deepcopy(scored)
    for parameter, known in zip(model.parameters(), scored.parameters()):
        parameter.grad = None if known.grad is None else known.grad.clone()
    modules = dict(model.named_modules())
    head = [m for m in modules.values() if isinstance(m, nn.Linear)][-1:]
    measure = tp.importance.GroupTaylorImportance()
    if kind == "group_norm":
        measure = tp.importance.GroupMagnitudeImportance(p=2)
    example = setting.batches[0][0][:1]
    with torch.enable_grad():
        cutter = tp.pruner.BasePruner(
            model,
            example,
            importance=measure,
            global_pruning=kind in ("taylor", "isomorphic"),
            isomorphic=kind == "isomorphic",
            pruning_ratio=1 - knob,
            max_pruning_ratio=0.95,
            ignored_layers=[*head, *(modules[name] for name in kept)],
            round_to=8,  # what its users found fast (its issue 38)
        )
        cutter.step()
    with torch.no_grad():
        model(example)  # a RuntimeError where what is left does not fit together
    return _read_history(setting.net, model, cutter.pruning_history())


def _read_history(net: Network, model: nn.Module, history: Any) -> Plan:
    """Read the Plan of what Torch-Pruning has cut; PlanError where it couples layers otherwise."""
    gone: dict[tuple[str, int], list[int]] = {
        (f"{name}.weight", 0 if outputs else 1): list(indices) for name, outputs, indices in history
    }
    keep = {}
    for name, dim in net.dims.items():
        lost: set[int] = set()
        for slot in dim.slots:
            positions = gone.get((slot.tensor, slot.axis), [])
            lost |= {int(i) for i in slot.owner[positions] if i >= 0}
        keep[name] = tuple(i for i in range(dim.size) if i not in lost)
    plan = Plan(keep, dict.fromkeys(net.blocks, True))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, own in pruner.apply(net, plan).named_parameters():
        if name in shapes and tuple(own.shape) != shapes[name]:
            raise pruner.PlanError(
                f"{name} has the shape {shapes[name]} by Torch-Pruning and {tuple(own.shape)} by "
                "the Dims: it couples layers otherwise"
            )
    return plan


def make_fastnas(setting: Setting) -> Method:
    """Prune by FastNAS of NVIDIA's Model Optimizer: one threshold for all widths.

    Its search is run once, for what each width loses with batch norms recalibrated. By its rule,
    the smallest width that loses no more than a threshold, every threshold then is a structure: so
    what is met is a latency, not the multiply-adds that it knows.
    """
    found = cache(lambda: _search_by_fastnas(setting))

    def plan(knob: float) -> Plan:
        known = found()
        thresholds = np.unique([loss for losses, _ in known.values() for loss in losses.values()])
        most = thresholds[int(round((1 - knob) * (len(thresholds) - 1)))]
        keep = dict(Plan.dense(setting.net).keep)
        for name, dim in setting.net.dims.items():
            for slot in dim.slots:
                if slot.role == "out" and slot.axis == 0 and slot.tensor in known:
                    losses, order = known[slot.tensor]
                    width = min(width for width, loss in losses.items() if loss <= most)
                    kept = {int(i) for i in slot.owner[order[:width]] if i >= 0}
                    keep[name] = tuple(sorted(kept))
        return Plan(keep, dict.fromkeys(setting.net.blocks, True))

    return Method(setting.net, plan, monotone=False)


def _search_by_fastnas(setting: Setting) -> dict[str, tuple[dict[int, float], NDArray[np.int64]]]:
    """Return of each weight that it may narrow what its widths lose, and the channels' order."""
    try:
        import modelopt.torch.prune as mtp
    except ImportError as error:
        raise pruner.PrunerError(
            f"fastnas: {error}; pip install nvidia-modelopt torchprofile==0.0.4 requests"
        ) from error
    space = mtp.fastnas.FastNASConfig().model_dump()
    for rules in space.values():
        for rule in rules.values():
            rule.update({key: 8 for key in rule if key.endswith("_divisor")})
    model = copy.deepcopy(setting.model).eval()
    # Nothing is cut by this constraint: channels come back in its order, all of them.
    ordered, state = mtp.prune(
        model,
        mode=[("fastnas", space)],
        constraints={"flops": "100%"},
        dummy_input=setting.batches[0][0][:1],
        config={
            "data_loader": setting.batches,
            "collect_func": lambda batch: (batch[0],),
            "max_iter_data_loader": len(setting.batches),
            "score_func": lambda module: -evaluate(module, setting.batches).loss,
            "verbose": False,
        },
    )
    weights, moved = setting.model.state_dict(), ordered.state_dict()
    found = {}
    for name, losses in state["sensitivity_map"].items():
        tensor = f"{name.removesuffix('.out_channels')}.weight"
        found[tensor] = (losses, _match_rows(moved[tensor], weights[tensor]))
    return found


def _match_rows(moved: torch.Tensor, original: torch.Tensor) -> NDArray[np.int64]:
    """Find which row of the original each row is, where columns may have changed places too."""
    keys = [np.sort(t.detach().flatten(1).numpy(), axis=1) for t in (original, moved)]
    place = {row.tobytes(): i for i, row in enumerate(keys[0])}
    return np.array([place[row.tobytes()] for row in keys[1]])


def _keep_best(net: Network, scores: Importance, sizes: Mapping[str, int]) -> Plan:
    keep = {name: tuple(range(size)) for name, size in sizes.items()}
    return Plan(keep, dict.fromkeys(net.blocks, True)).refill(scores)


def _solve(net: Network, problem: solver.Problem, scores: Importance) -> Plan:
    answer = solver.solve(problem, time_limit_s=TIME_LIMIT_S)
    if answer.choice is None:
        raise solver.SolverError(f"{problem.name}: {answer.status.advice}")
    return Plan.from_solution(net, answer, scores)


METHODS: dict[str, Callable[[Setting], Method]] = {
    "msprune, trials": lambda s: make_msprune(s, "measured", TRIALS),
    "msprune, refined": lambda s: make_msprune(s, "refined"),
    "msprune, calibrated": lambda s: make_msprune(s, "calibrated"),
    "msprune, measured": lambda s: make_msprune(s, "measured"),
    "msprune, taylor": lambda s: make_msprune(s, "taylor"),
    "uniform": make_uniform,
    "global magnitude": make_global_magnitude,
    "halp": make_halp,
    "mdp as published": make_mdp,
    "torch-pruning, taylor": lambda s: make_torch_pruning(s, "taylor"),
    "torch-pruning, local taylor": lambda s: make_torch_pruning(s, "local_taylor"),
    "torch-pruning, isomorphic": lambda s: make_torch_pruning(s, "isomorphic"),
    "torch-pruning, group norm": lambda s: make_torch_pruning(s, "group_norm"),
    "fastnas": make_fastnas,
}
