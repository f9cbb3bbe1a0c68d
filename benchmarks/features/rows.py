"""Small modules and single questions of ``benchmarks.features``: one a row, asked of every tool."""

import configparser
import copy
import inspect
import itertools
from collections.abc import Callable
from importlib.metadata import requires
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import record
from .checks import compare, find_kept, judge, silence_positions, stamp
from .tools import PACKAGE, allow_multiples, explain, find_classifier, list_arguments


class GroupedConvolutions(nn.Module):
    """A convolution in four groups between two plain ones, with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.middle = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, groups=4), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.last = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.classify = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores [n, 10] of x [n, 3, H, W]."""
        return self.classify(self.last(self.middle(self.first(x))).mean((2, 3)))


class FunctionalOperators(nn.Module):
    """Parameters of its own, F.conv2d, chunk, cat, einsum and a gate: no layer says it all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 48, 3, padding=1)
        self.kernel = nn.Parameter(torch.randn(32, 24, 3, 3) / 16)
        self.scale = nn.Parameter(torch.ones(48))
        self.mix = nn.Parameter(torch.randn(56, 40) / 8)
        self.classify = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores [n, 10] of x [n, 3, H, W]."""
        y = self.first(x) * self.scale.view(1, -1, 1, 1)
        a, b = y.chunk(2, dim=1)
        y = F.relu(F.conv2d(a * torch.sigmoid(b), self.kernel, padding=1))
        y = torch.cat([y, F.relu(a)], dim=1)
        return self.classify(F.gelu(torch.einsum("nchw,cd->nd", y, self.mix)))


class BranchOnData(nn.Module):
    """Which of two convolutions runs is decided by the values of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.light, self.dark = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 5, padding=2)
        self.classify = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores [n, 10] of x [n, 3, H, W]."""
        y = F.relu(self.first(x))
        y = self.light(y) if x.mean() > 0 else self.dark(y)
        return self.classify(F.relu(y).mean((2, 3)))


class TwoConvolutions(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)
        self.classify = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute class scores [n, 10] of x [n, 3, H, W]."""
        return self.classify(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "grouped convolutions": GroupedConvolutions,
    "functional operators": FunctionalOperators,
    "branch on data": BranchOnData,
}


def make_transformer() -> nn.Module:
    """Build a ViT of two blocks of three heads."""
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, num_classes=10, pretrained=False
    )


def ask_heads(tool: str, seed: int) -> str:
    """Can one of three heads go as a whole?"""
    torch.manual_seed(seed)
    dense = stamp(make_transformer(), seed)
    x = torch.randn(2, 3, 64, 64)
    small = HEADS[tool](make_again(dense), x)
    rows = [len(m.weight) // 64 for n, m in small.named_modules() if n.endswith("attn.qkv")]
    if rows == [9, 9]:
        return "no: all heads stay"
    kept = find_kept(dense, small)
    told = kept if isinstance(kept, str) else judge(_compare(dense, kept, small, x))
    return f"{rows[0] // 3} of 3 heads stay; oracle {told}"


def _compare(dense: nn.Module, kept: dict[str, Tensor], small: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return compare(small.eval()(x), silence_positions(dense, kept, small)(x))


def make_again(dense: nn.Module) -> nn.Module:
    """Copy a network: tools may change it in place."""
    return copy.deepcopy(dense)


def _heads_by_msprune(model: nn.Module, x: Tensor) -> nn.Module:
    import pruner

    net = pruner.trace(model, (x,))
    dense = pruner.Plan.dense(net)
    fewer = {name: dense.keep[name][1:] for name, dim in net.dims.items() if dim.kind == "heads"}
    return pruner.apply(net, pruner.Plan({**dense.keep, **fewer}, dense.blocks))


def _heads_by_torch_pruning(model: nn.Module, x: Tensor) -> nn.Module:
    import torch_pruning as tp

    attentions = [m for n, m in model.named_modules() if n.endswith("attn")]
    cutter = tp.pruner.BasePruner(
        model, x, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=0.1,
        num_heads={m.qkv: m.num_heads for m in attentions}, prune_num_heads=True,
        prune_head_dims=False, head_pruning_ratio=0.3, ignored_layers=[find_classifier(model)],
    )  # fmt: skip
    cutter.step()
    for m in attentions:
        m.num_heads = cutter.num_heads[m.qkv]
        m.attn_dim = m.qkv.out_features // 3
        m.head_dim = m.attn_dim // m.num_heads
    return model


def _heads_by_torch_kirigami(model: nn.Module, x: Tensor) -> nn.Module:
    from torch_kirigami import DependencyGraph, TensorRef
    from torch_kirigami.pruning import Pruner

    graph = DependencyGraph.build(model, args=(x,))
    cutter = Pruner(model, graph=graph)
    remove = []
    for operation in graph.operations():
        if operation.node.target is F.scaled_dot_product_attention:
            query = operation.argument("query", 0)
            assert isinstance(query, TensorRef)
            remove.append(query.axis(1).select([0]))
    cutter.apply(cutter.plan_remove(remove))
    return model


def _heads_by_modelopt(model: nn.Module, x: Tensor) -> nn.Module:
    import modelopt.torch.nas as mtn
    from modelopt.torch.opt.utils import named_hparams

    space = mtn.convert(model, mode="fastnas")
    names = [name for name, _ in named_hparams(space, configurable=True)]
    inside = [name for name in names if "attn" in name]
    raise RuntimeError(f"nothing of the attention is in its search space: {inside or names[:3]}")


HEADS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "msprune": _heads_by_msprune,
    "torch-pruning": _heads_by_torch_pruning,
    "torch-kirigami": _heads_by_torch_kirigami,
    "modelopt": _heads_by_modelopt,
}


def ask_criterion(tool: str, seed: int) -> str:
    """Does a score of one's own, the number of the channel, keep the last channels?"""
    torch.manual_seed(seed)
    dense = stamp(TwoConvolutions(), seed)
    small = CRITERION[tool](make_again(dense), torch.randn(2, 3, 16, 16))
    if isinstance(small, str):
        return small
    kept = find_kept(dense, small)
    if isinstance(kept, str):
        return f"no: {kept}"
    places = kept["first.bias"].nonzero()[:, 0].tolist()
    best = list(range(32 - len(places), 32))
    return f"{'yes' if places == best else 'no'}: {len(places)} of 32 channels stay"


def _criterion_by_msprune(model: nn.Module, x: Tensor) -> nn.Module:
    import pruner

    def number(name: str, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        first = torch.arange(len(parameter), dtype=torch.float32)
        return first.view(-1, *[1] * (parameter.ndim - 1)).expand_as(parameter)

    net = pruner.trace(model, (x,))
    scores = pruner.score(net, None, None, number)
    return pruner.apply(net, pruner.Plan.random(net, macs=0.6, seed=0).refill(scores))


def _criterion_by_torch_pruning(model: nn.Module, x: Tensor) -> nn.Module:
    import torch_pruning as tp

    def number(group: Any) -> Tensor:
        return torch.arange(len(group[0].idxs), dtype=torch.float32)

    cutter = tp.pruner.BasePruner(
        model, x, importance=number, pruning_ratio=0.25, ignored_layers=[find_classifier(model)]
    )
    cutter.step()
    return model


def _criterion_by_torch_kirigami(model: nn.Module, x: Tensor) -> nn.Module:
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import ChannelRatio, Greedy, Pruner

    class Number:
        def score(self, context: Any, candidates: Any, *, accepted_impact: Any) -> list[float]:
            axes = [c.axis.dim if c.axis else 0 for c in candidates]
            return [
                float(max(c.remove[0].fully_selected_indices(axis)))
                for c, axis in zip(candidates, axes)
            ]

    cutter = Pruner(model, graph=DependencyGraph.build(model, args=(x,)))
    space = cutter.discover_candidates()
    cutter.prune(space, budget=ChannelRatio(0.25), strategy=Greedy(Number()))
    return model


def _criterion_by_modelopt(model: nn.Module, x: Tensor) -> str:
    import modelopt.torch.prune as mtp

    calls = itertools.count()

    def score(candidate: nn.Module) -> float:
        next(calls)
        return float(candidate(x).std())

    mtp.prune(
        model, mode=allow_multiples(8), constraints={"flops": "60%"}, dummy_input=x,
        config={"data_loader": [(x, None)], "collect_func": lambda batch: (batch[0],),
                "max_iter_data_loader": 1, "score_func": score, "verbose": False},
    )  # fmt: skip
    return f"of whole networks: score_func was called {next(calls)} times; channels go by its norms"


CRITERION: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "msprune": _criterion_by_msprune,
    "torch-pruning": _criterion_by_torch_pruning,
    "torch-kirigami": _criterion_by_torch_kirigami,
    "modelopt": _criterion_by_modelopt,
}


def ask_latency(tool: str, seed: int) -> str:
    """Can a budget be named in milliseconds?"""
    torch.manual_seed(seed)
    model, x = stamp(GroupedConvolutions(), seed), torch.randn(1, 3, 64, 64)
    return LATENCY[tool](model, x)


def _latency_by_msprune(model: nn.Module, x: Tensor) -> str:
    import latency_tables
    import pruner
    import solver

    net = pruner.trace(model, (x,))
    table = latency_tables.measure(net, latency_tables.engine("onnxruntime", threads=1), quick=True)
    scores = pruner.score(net, None, None, "magnitude")
    answer = solver.solve(pruner.formulate(net, table, scores, budget="60%"))
    plan = pruner.Plan.from_solution(net, answer, scores)
    ms = pruner.predict(net, table, plan.sizes(), plan.dropped_blocks())
    share = ms / table.uncut_ms(net)
    return f"yes: {answer.status}, {100 * share:.0f}% of the dense latency by the table"


def _latency_by_torch_pruning(model: nn.Module, x: Tensor) -> str:
    import torch_pruning as tp

    names = list_arguments(tp.pruner.BasePruner.__init__)
    found = [name for name in names if "latency" in name]
    times = "measure_latency" in dir(tp.utils.benchmark)
    return (
        f"{'yes: ' + found[0] if found else 'no: by its signature BasePruner takes none'}"
        f"{'; tp.utils.benchmark.measure_latency times a network' if times else ''}"
    )


def _latency_by_torch_kirigami(model: nn.Module, x: Tensor) -> str:
    from torch_kirigami import measurement, pruning

    budgets = [n for n in pruning.__all__ if n.endswith("Budget") or n.startswith("Channel")]
    ms = measurement.measure_module_latency(model, (x,), repetitions=3, warmup=1)
    times = "measure_module_latency times a network" if ms > 0 else ""
    return f"no: budgets are {', '.join(budgets)}; {times}"


def _latency_by_modelopt(model: nn.Module, x: Tensor) -> str:
    import modelopt.torch.prune as mtp

    try:
        mtp.prune(
            model, mode=allow_multiples(8), constraints={"latency": "60%"}, dummy_input=x,
            config={"data_loader": [(x, None)], "collect_func": lambda batch: (batch[0],),
                    "score_func": lambda m: 0.0, "verbose": False},
        )  # fmt: skip
    except Exception as error:
        return f"no: {explain(error)}"
    return "yes"


LATENCY: dict[str, Callable[[nn.Module, Tensor], str]] = {
    "msprune": _latency_by_msprune,
    "torch-pruning": _latency_by_torch_pruning,
    "torch-kirigami": _latency_by_torch_kirigami,
    "modelopt": _latency_by_modelopt,
}


def ask_regularization(tool: str, seed: int) -> str:
    """Can training before the cut be told to make channels small?"""
    torch.manual_seed(seed)
    model: Any = stamp(TwoConvolutions(), seed)
    x = torch.randn(2, 3, 16, 16)
    if tool == "torch-pruning":
        import torch_pruning as tp

        cutter = tp.pruner.GroupNormPruner(
            model, x, importance=tp.importance.GroupMagnitudeImportance(p=2),
            ignored_layers=[find_classifier(model)],
        )  # fmt: skip
        cutter.update_regularizer()
        model(x).square().mean().backward()
        before = model.first.weight.grad.clone()
        cutter.regularize(model)
        return (
            f"yes: GroupNormPruner changes gradients: {not before.equal(model.first.weight.grad)}"
        )
    if tool == "torch-kirigami":
        from torch_kirigami import DependencyGraph
        from torch_kirigami.pruning import Pruner
        from torch_kirigami.sparsity import GroupLasso

        cutter = Pruner(model, graph=DependencyGraph.build(model, args=(x,)))
        groups = cutter.parameter_groups(cutter.discover_candidates().candidates)
        GroupLasso(groups)().backward()
        return f"yes: GroupLasso of {len(groups)} groups has a gradient"
    return "not run: nothing of the kind was found in its documents"


def ask_quantization(tool: str, seed: int) -> str:
    """Can it quantize to int8 what it has pruned?"""
    torch.manual_seed(seed)
    model, x = stamp(TwoConvolutions(), seed), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        wanted = model(x)
        if tool == "modelopt":
            import modelopt.torch.quantization as mtq

            quantized = mtq.quantize(model, mtq.INT8_DEFAULT_CFG, lambda m: m(x))
            return (
                f"yes: after and in training; answers differ by {compare(quantized(x), wanted):.2g}"
            )
        if tool == "msprune":
            import pruner

            found = "precision" in inspect.signature(pruner.export).parameters
            return "not run here: pruner.export has a precision" if found else "no"
    return "not run: nothing of the kind was found in its documents"


def count_packages(tool: str, seed: int) -> str:
    """How many packages does it require?"""
    if tool == "msprune":
        setup = configparser.ConfigParser()
        setup.read(record.ROOT / "setup.cfg")
        lines = setup["options"]["install_requires"].split()
    else:
        lines = requires(PACKAGE[tool]) or []
    names = sorted({line.split(";")[0].strip() for line in lines if "extra ==" not in line})
    return f"{len(names)}: {', '.join(names)}"


QUESTIONS: dict[str, Callable[[str, int], str]] = {
    "whole attention heads": ask_heads,
    "criterion of one's own": ask_criterion,
    "budget in milliseconds": ask_latency,
    "regularization before the cut": ask_regularization,
    "int8": ask_quantization,
    "required packages": count_packages,
}


def describe_question(name: str) -> str:
    """Return what a row asks, in one line."""
    source = MODULES.get(name) or QUESTIONS[name]
    return (inspect.getdoc(source) or "").partition("\n")[0]
