"""How each tool of ``benchmarks.features`` is used: in its documented way, all through one form.

Nothing of a tool is imported before it is asked for; each runs in a process of its own.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Make = Callable[[], nn.Module]
TRIES = 4


@dataclass(frozen=True)
class Case:
    """A network to prune to a share of its multiply-adds.

    make gives it anew, always with the same weights; x is the input that it is pruned with.
    """

    make: Make
    x: torch.Tensor
    share: float
    seed: int


@dataclass(frozen=True)
class Pruned:
    """What a tool left; reload writes it into a folder and reads it back, in the tool's own way.

    note says what was needed beside the first lines of the tool's README; source, whether reading
    it back needs the model's source.
    """

    model: nn.Module
    reload: Callable[[Path], nn.Module]
    note: str = ""
    source: bool = True


class BothFailed(Exception):
    """Neither way of using a tool led to a network; the message has what each said."""


def count_macs(model: nn.Module, x: torch.Tensor) -> int:
    """Count multiply-adds of convolutions and products by torch's own counter."""
    # With gradients: nn.MultiheadAttention's fast path is one operator that is not counted.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as c:
        model(x)
    return int(c.get_total_flops() // 2)


def find_classifier(model: nn.Module) -> nn.Module:
    """Return the last linear layer: its outputs are the network's."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def prune_by_msprune(case: Case) -> Pruned:
    """Widths at random for the multiply-adds, channels by magnitude: no device is measured here."""
    import pruner

    net = pruner.trace(case.make(), (case.x,))
    scores = pruner.score(net, None, None, "magnitude")
    plan = pruner.Plan.random(net, macs=case.share, seed=case.seed).refill(scores)
    small = pruner.apply(net, plan)

    def reload(folder: Path) -> nn.Module:
        pruner.save(small, plan, folder)
        return pruner.load(folder)

    return Pruned(small, reload, source=False)


def prune_by_torch_pruning(case: Case) -> Pruned:
    """BasePruner in steps until the multiply-adds are met, as its README and its examples do it.

    Where the network that this leaves cannot run, once more with the layers ignored that write
    residual streams (as msprune's trace tells them; a user knows them by reading the model).
    """
    try:
        return _step_torch_pruning(case, set(), "")
    except Exception as error:
        first = explain(error)
    streams = find_stream_writers(case)
    if not streams:
        raise BothFailed(first)
    try:
        return _step_torch_pruning(case, streams, f"residual streams ignored; else {first}")
    except Exception as error:
        raise BothFailed(f"{first}; residual streams ignored: {explain(error)}") from error


def find_stream_writers(case: Case) -> set[str]:
    """Return the layers that write what skip connections carry."""
    import pruner

    net = pruner.trace(case.make(), (case.x,))
    return {
        slot.tensor.rpartition(".")[0]
        for dim in net.dims.values() if dim.kind == "stream"
        for slot in dim.slots if slot.role == "out"
    }  # fmt: skip


def _step_torch_pruning(case: Case, ignored: set[str], note: str) -> Pruned:
    import torch_pruning as tp

    def prepare(model: nn.Module) -> Any:
        attentions = [m for m in model.modules() if hasattr(m, "num_heads") and hasattr(m, "qkv")]
        heads = {m.qkv: m.num_heads for m in attentions if isinstance(m.qkv, nn.Linear)}
        own = [m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
        layers = dict(model.named_modules())
        return tp.pruner.BasePruner(
            model,
            case.x,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.9,
            iterative_steps=36,
            num_heads=heads,
            round_to=own[0] if own else None,  # as its example for torchvision does
            ignored_layers=[find_classifier(model), *(layers[name] for name in sorted(ignored))],
        )

    def adapt(model: Any, cutter: Any) -> None:
        """Set the attributes that its examples set by hand."""
        module: Any
        for module in model.modules():
            if module.__dict__.get("num_heads") and getattr(module, "qkv", None) is not None:
                module.num_heads = cutter.num_heads.get(module.qkv, module.num_heads)
                if hasattr(module, "head_dim"):
                    module.head_dim = module.qkv.out_features // (3 * module.num_heads)
                if hasattr(module, "attn_dim"):
                    module.attn_dim = module.qkv.out_features // 3
        if hasattr(model, "hidden_dim") and hasattr(model, "conv_proj"):
            model.hidden_dim = model.conv_proj.out_channels

    model = case.make()
    goal = case.share * count_macs(model, case.x)
    cutter = prepare(model)
    for _ in range(36):
        cutter.step()
        adapt(model, cutter)
        if count_macs(model, case.x) <= goal:
            break
    history = cutter.pruning_history()

    def reload(folder: Path) -> nn.Module:
        torch.save({"history": history, "weights": model.state_dict()}, folder / "tp.pth")
        saved = torch.load(folder / "tp.pth", weights_only=True)
        fresh = case.make()
        again = prepare(fresh)
        again.load_pruning_history(saved["history"])
        adapt(fresh, again)
        fresh.load_state_dict(saved["weights"])
        return fresh

    return Pruned(model, reload, note)


def prune_by_torch_kirigami(case: Case) -> Pruned:
    """Greedy selection by channel ratio, in rounds until the multiply-adds are met.

    Where a ratio cannot be met in every axis: all axes together, then a number of parameters.
    """
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import (
        ChannelRatio,
        Greedy,
        Magnitude,
        ParameterBudget,
        PlanningError,
        Pruner,
        load_checkpoint,
        save_checkpoint,
    )

    model = case.make()
    goal = case.share * count_macs(model, case.x)
    notes: dict[str, None] = {}
    for _ in range(TRIES):
        left = count_macs(model, case.x) / goal
        if left <= 1.03:
            break
        ratio = round(1 - math.sqrt(1 / left), 4)
        cutter = Pruner(model, graph=DependencyGraph.build(model, args=(case.x,)))
        space = cutter.discover_candidates()
        budgets = {
            "": ChannelRatio(ratio),
            "ratio over all layers": ChannelRatio(ratio, scope="global"),
            "by parameters": ParameterBudget.from_ratio(model, 1 - 1 / left),
        }
        for note, budget in budgets.items():
            try:
                cutter.prune(space, budget=budget, strategy=Greedy(Magnitude(p=2)))
            except PlanningError as error:
                failure = error
            else:
                notes[note] = None
                break
        else:
            raise failure

    def reload(folder: Path) -> nn.Module:
        save_checkpoint(model, folder / "kirigami.pt")
        return load_checkpoint(case.make(), folder / "kirigami.pt")

    return Pruned(model, reload, ", ".join(filter(None, notes)))


def prune_by_modelopt(case: Case) -> Pruned:
    """FastNAS under a constraint on FLOPs; the score is how near outputs are to the dense ones.

    By default it chooses among multiples of 32 channels; where those do not reach, of 8.
    """
    try:
        return _search_by_fastnas(case, None)
    except Exception as error:
        first = explain(error)
    try:
        return _search_by_fastnas(case, 8)
    except Exception as error:
        if explain(error) == first:
            raise
        raise BothFailed(f"{first}; with a divisor of 8: {explain(error)}") from error


def _search_by_fastnas(case: Case, divisor: int | None) -> Pruned:
    import modelopt.torch.opt as mto
    import modelopt.torch.prune as mtp

    model = case.make()
    with torch.no_grad():
        dense = model(case.x)

    def score(candidate: nn.Module) -> float:
        with torch.no_grad():
            return -float((candidate(case.x) - dense).abs().mean() / dense.std())

    small, _ = mtp.prune(
        model,
        mode=allow_multiples(divisor) if divisor else "fastnas",
        constraints={"flops": f"{100 * case.share:g}%"},
        dummy_input=case.x,
        config={
            "data_loader": [(case.x, None)],
            "collect_func": lambda batch: (batch[0],),
            "max_iter_data_loader": 1,
            "score_func": score,
            "verbose": False,
        },
    )

    def reload(folder: Path) -> nn.Module:
        mto.save(small, folder / "modelopt.pth")
        return mto.restore(case.make(), folder / "modelopt.pth")

    return Pruned(small.eval(), reload, f"channel_divisor {divisor}" if divisor else "")


def allow_multiples(divisor: int) -> list[tuple[str, Any]]:
    """Return FastNAS' mode with widths that are multiples of a number."""
    import modelopt.torch.prune as mtp

    space = mtp.fastnas.FastNASConfig().model_dump()
    for rules in space.values():
        for rule in rules.values():
            rule.update({key: divisor for key in rule if key.endswith("_divisor")})
    return [("fastnas", space)]


def explain(error: BaseException) -> str:
    """Say in one short line what was raised."""
    if isinstance(error, BothFailed):
        return str(error).replace("|", "/")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines[0]) > 20 or len(lines) == 1 else " ".join(lines[:2])
    return f"{type(error).__name__}: {text}"[:200].replace("|", "/")


PRUNE: dict[str, Callable[[Case], Pruned]] = {
    "msprune": prune_by_msprune,
    "torch-pruning": prune_by_torch_pruning,
    "torch-kirigami": prune_by_torch_kirigami,
    "modelopt": prune_by_modelopt,
}
PACKAGE = {
    "torch-pruning": "torch-pruning",
    "torch-kirigami": "torch-kirigami",
    "modelopt": "nvidia-modelopt",
}


def list_arguments(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)
