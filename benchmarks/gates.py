"""What gates cost: a forward and backward pass with gates on everything, against one without.

    python -m benchmarks.gates [--steps 9]

A ResNet-20, a MobileNetV2 and a small vision transformer in training mode, on one thread; steps of
both networks take turns, processor time of the thread alone is counted, and the median of each
pair's ratio is reported. Exits with 1 where gates on everything take more than 1.3 times as long.
"""

import argparse
import datetime
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

import pruner
from pruner.demo import resnet20
from pruner.gates import gate_network

from . import record

VIT = {"img_size": 64, "patch_size": 8, "depth": 6, "embed_dim": 192, "num_heads": 3}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "ResNet-20": (resnet20, 64, 32),
    "MobileNetV2": (lambda: record.build_module("timm:mobilenetv2_100"), 8, 128),
    "ViT, 6 layers of 192": (
        lambda: record.build_module("timm:vit_tiny_patch16_224", **VIT), 16, 64,
    ),
}  # fmt: skip
"""Name -> how it is built, images a batch, their side."""
RESULTS = record.RESULTS / "gates.json"
HEAD = ("network", "without, ms", "everything", "dims", "blocks")
MOST = 1.3


def main() -> None:
    """Time all networks and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {name: examine(*setting, options.steps) for name, setting in NETWORKS.items()}
    content = {
        "date": datetime.date.today().isoformat(),
        "machine": record.describe_machine(("torch", "timm")),
        "steps": options.steps,
        "networks": rows,
    }
    record.write_json(RESULTS, content)
    lines = [
        (name, f"{row['plain_ms']:.0f}", *(f"{row[kind]:.2f}" for kind in HEAD[2:]))
        for name, row in rows.items()
    ]
    print(record.align_table(lines, HEAD))
    sys.exit(any(row["everything"] > MOST for row in rows.values()))


def examine(build: Callable[[], nn.Module], batch: int, side: int, steps: int) -> dict[str, Any]:
    """Return milliseconds of a step without gates, and how many times as long those with take."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, side, side)
    net = pruner.trace(build().eval(), (images[:2],))
    kinds = {
        "everything": gate_network(net),
        "dims": gate_network(net, blocks=()),
        "blocks": gate_network(net, dims=()),
    }
    plain: list[float] = []
    ratios: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(steps + 1):
        alone = time_step(net.module, images)
        times = {kind: time_step(module, images) for kind, module in kinds.items()}
        if number:  # the first warms up
            plain.append(alone)
            for kind, seconds in times.items():
                ratios[kind].append(seconds / alone)
    medians = {kind: statistics.median(values) for kind, values in ratios.items()}
    return {"plain_ms": 1000 * statistics.median(plain), **medians}


def time_step(module: fx.GraphModule, images: Tensor) -> float:
    """Return the seconds of one forward and backward pass in training mode."""
    module.train()
    module.zero_grad()
    begin = time.thread_time()
    nn.functional.cross_entropy(module(images), torch.arange(len(images)) % 10).backward()
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
