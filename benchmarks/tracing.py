"""How long tracing takes, by the size of the network; writes results/tracing.{json,md}.

    python -m benchmarks.tracing [--only TEXT] [--fresh]

ViTs, ResNets and DenseNets of depth 12 to 192, the timm architectures of
``zoo/libraries/timm_families.json`` and torchvision's Swins, at random weights. Time is CPU time of
the process (``time.process_time``), on one thread: what another process does beside it does not
count. The share of ``torch.export`` is told from what is read out of its graph: axes, rehearsal,
Dims, Blocks, Cells. Finished cases are kept and not run again on the same machine with the same
versions.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any
from unittest import mock

import numpy as np

from . import record
from .zoo.listing import list_architectures

DEPTHS = (12, 24, 48, 96, 192)
TARGET_S = 20.0


SERIES = ("vit", "resnet", "densenet")
SWINS = {"torchvision:swin_t": 224, "torchvision:swin_v2_t": 256}
"""torchvision's, whose windows are shifted by hand, and the side of their images."""


def build(case: str) -> tuple[Any, int]:
    """Build the model of a case's name; return it and the side of its images.

    A ViT of depth n has two blocks (attention, MLP) a layer, a ResNet n basic blocks in four
    stages, a DenseNet n layers in two blocks: a layer reads all before it.
    """
    kind, _, depth = case.rpartition(" ")
    if case in SWINS:
        return record.build_module(case), SWINS[case]
    if kind not in SERIES:
        model = record.build_module(case)
        return model, model.default_cfg["input_size"][-1]
    n = int(depth)
    if kind == "vit":
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 3}
        return record.build_module("timm:vit_tiny_patch16_224", depth=n, **sizes), 32
    if kind == "densenet":
        halves = (n // 2, n // 2)
        return record.build_module("timm:densenet121", block_config=halves, growth_rate=8), 32
    from timm.models.resnet import BasicBlock, ResNet

    block: Any = BasicBlock
    return ResNet(block, (1, 1, n - 3, 1), num_classes=10, channels=(16, 16, 16, 16)), 32


def run_case(case: str) -> dict[str, Any]:
    """Trace one network and draw a random plan for it."""
    import torch

    from pruner import Plan, trace

    model, side = build(case)
    model.eval()
    with time_calls(torch.export, "export") as spent:
        begin = time.process_time()
        net = trace(model, (torch.zeros(2, 3, side, side),))
        seconds = time.process_time() - begin
    begin = time.process_time()
    Plan.random(net, macs=0.5, drop_blocks=0.2)
    return {
        "nodes": len(net.program.graph.nodes),
        "dims": len(net.dims),
        "blocks": len(net.blocks),
        "cells": len(net.cells()),
        "seconds": round(seconds, 3),
        "export_s": round(sum(spent), 3),
        "plan_s": round(time.process_time() - begin, 3),
    }


@contextmanager
def time_calls(module: Any, name: str) -> Iterator[list[float]]:
    """Note the CPU seconds of every call of a module's function meanwhile."""
    function, spent = getattr(module, name), list[float]()

    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(time.process_time() - begin)

    with mock.patch.object(module, name, call):
        yield spent


def fit_exponent(runs: list[dict[str, Any]], seconds: Callable[[dict[str, Any]], float]) -> float:
    """Return p of seconds ~ nodes ** p, by least squares over the logarithms of the larger runs."""
    runs = sorted(runs, key=lambda run: run["nodes"])[-4:]
    sizes, times = np.log([r["nodes"] for r in runs]), np.log([seconds(r) for r in runs])
    return float(np.polyfit(sizes, times, 1)[0])


def report(kept: dict[str, Any]) -> str:
    """Write the tables in Markdown."""
    runs = kept["runs"]
    parts: dict[str, Callable[[dict[str, Any]], float]] = {
        "whole": lambda r: r["seconds"],
        "rest": lambda r: r["seconds"] - r["export_s"],
        "plan": lambda r: r["plan_s"],
    }
    exponents = {}
    for kind in SERIES:
        series = [run for run in runs if run["case"].startswith(f"{kind} ")]
        if len(series) >= 4:
            exponents[kind] = {name: fit_exponent(series, part) for name, part in parts.items()}
    return record.render(
        "tracing.md.j2",
        kept=kept,
        runs=sorted(runs, key=lambda r: (":" in r["case"], r["case"].split(" ")[0], r["nodes"])),
        exponents=exponents,
        listed=sorted((r for r in runs if ":" in r["case"]), key=lambda r: -r["seconds"]),
        target_s=TARGET_S,
    )


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    given = parser.parse_args()
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    path = record.RESULTS / "tracing.json"
    here = {**record.describe_machine(["numpy"]), "torch": torch.__version__}
    kept: dict[str, Any] = {"machine": here, "date": str(date.today()), "runs": []}
    if not given.fresh:
        kept = record.resume(path, kept, "machine")
    done = {run["case"] for run in kept["runs"]}
    cases = [f"{kind} {depth}" for depth in DEPTHS for kind in SERIES]
    cases += [*SWINS, *(name for name in list_architectures() if name.startswith("timm:"))]
    if any(case not in done for case in cases):
        run_case("vit 12")  # what torch loads on its first export is no part of any case
    for case in cases:
        if given.only not in case or case in done:
            continue
        try:
            run = {"case": case, "date": str(date.today()), **run_case(case)}
        except Exception as error:  # the zoo says why; here it has no time
            print(f"{case}: {type(error).__name__}", flush=True)
            continue
        kept["runs"].append(run)
        record.write_json(path, kept, end="")
        print(run, flush=True)
    text = report(kept)
    record.write_result(record.RESULTS / "tracing.md", text)
    print(text)


if __name__ == "__main__":
    main()
