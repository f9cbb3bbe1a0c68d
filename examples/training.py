"""Trains a network on scenes: the loop that detection, segmentation and depth share.

Plain torch. The order of scenes and all that is random depend on the seed, the epoch and the batch
only, and the state is written every minute: an interrupted training goes on where it stopped, to
the same weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks import record

CACHE = record.ROOT / "benchmarks" / "cache"
RESULTS = record.RESULTS / "trained.json"
SAVE_EVERY_S = 60.0
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pycocotools", "faster_coco_eval")

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW, a linear warm-up, then a cosine down to zero, by batches.

    Attributes:
        epochs: Passes over the scenes.
        batch: Scenes of a batch.
        lr: The highest learning rate.
        weight_decay: Of weights; biases and normalization have none.
        warmup: Share of all batches.
        clip: Largest norm of the gradient.
        seed: Of initial weights, order and augmentation.
        bf16: Whether convolutions compute in bfloat16, which some processors do twice as fast.
    """

    epochs: int = 8
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    clip: float = 5.0
    seed: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        name: Of the weights' file.
        model: Changed in place.
        count: Number of training scenes.
        fetch: Row numbers and whether each is to be mirrored, to images and targets.
        loss: Of the model in training mode on such a batch: a scalar.
        evaluate: The model in evaluation mode to its metric on held-out scenes.
        metric: The metric's name.
        about: Further facts for the results.
    """

    name: str
    model: nn.Module
    count: int
    fetch: Callable[[Tensor, Tensor], tuple[Any, Any]]
    loss: Callable[[nn.Module, Any, Any], Tensor]
    evaluate: Callable[[nn.Module], float]
    metric: str
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


def train(job: Job, recipe: Recipe, cache: Path = CACHE, results: Path = RESULTS) -> dict[str, Any]:
    """Train, or go on with it; write cache/NAME.safetensors and figures after every epoch.

    Returns:
        The figures, as they stand in the file of results.

    Raises:
        FloatingPointError: The loss is not a number.
        ValueError: There are fewer scenes than a batch has.
    """
    steps = job.count // recipe.batch
    if not steps:
        raise ValueError(f"{job.count} scenes are less than a batch of {recipe.batch}")
    job.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(job.model, recipe)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "cpu_seconds": 0.0, "history": []}
    resume = cache / f"{job.name}.resume.pt"
    settings = json.dumps([dataclasses.asdict(recipe), job.count, job.about], sort_keys=True)
    if resume.is_file():
        before = torch.load(resume, weights_only=True)
        if before.pop("settings") == settings:
            job.model.load_state_dict(before.pop("model"))
            optimizer.load_state_dict(before.pop("optimizer"))
            state = before
            print(f"{job.name}: going on at batch {state['step']} of {recipe.epochs * steps}")
    began, saved = time.monotonic() - state["seconds"], time.monotonic()
    cpu_began = time.process_time() - state["cpu_seconds"]
    running = math.nan
    while state["step"] < recipe.epochs * steps:
        loss = take_step(job, recipe, optimizer, state["step"], steps)
        running = loss if math.isnan(running) else 0.95 * running + 0.05 * loss
        state["step"] += 1
        state["seconds"] = time.monotonic() - began
        state["cpu_seconds"] = time.process_time() - cpu_began
        done = state["step"] % steps == 0
        if done:
            state["history"].append(job.evaluate(job.model.eval()))
            where = f"epoch {state['step'] // steps} of {recipe.epochs}, loss {running:.3f}"
            report(job, where, state)
            cache.mkdir(parents=True, exist_ok=True)
            save_file(flatten_state(job.model), cache / f"{job.name}.safetensors")
            write_figures(job, recipe, state, results)
        if done or time.monotonic() - saved > SAVE_EVERY_S:
            save_state(resume, job.model, optimizer, settings, state)
            saved = time.monotonic()
    return write_figures(job, recipe, state, results)


def report(job: Job, where: str, state: dict[str, Any]) -> None:
    """Print a line about an epoch that is done."""
    figures = f"{job.metric} {state['history'][-1]:.4f}, {state['seconds']:.0f} s"
    print(f"{job.name}: {where}, {figures}", flush=True)


def take_step(
    job: Job, recipe: Recipe, optimizer: torch.optim.Optimizer, step: int, steps: int
) -> float:
    """Train on one batch; return the loss."""
    epoch, k = divmod(step, steps)
    order = torch.from_numpy(np.random.default_rng((recipe.seed, epoch)).permutation(job.count))
    rows = order[k * recipe.batch : (k + 1) * recipe.batch]
    torch.manual_seed(recipe.seed * 1_000_003 + step)
    images, targets = job.fetch(rows, torch.rand(len(rows)) < 0.5)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * find_rate(step, recipe.epochs * steps, recipe.warmup)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
        loss = job.loss(job.model.train(), images, targets)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{job.name}: the loss is {loss.item()} at batch {step}")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(job.model.parameters(), recipe.clip)
    optimizer.step()
    return loss.item()


def find_rate(step: int, total: int, warmup: float) -> float:
    """Return the share of the highest learning rate at a batch."""
    first = max(1, round(warmup * total))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, total - first)))


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW that decays what has two axes or more."""
    groups: tuple[list[Tensor], list[Tensor]] = ([], [])
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[parameter.ndim < 2].append(parameter)
    decays = (recipe.weight_decay, 0.0)
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay} for group, decay in zip(groups, decays)],
        lr=recipe.lr,
    )


def flatten_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state_dict with tensors as safetensors takes them."""
    return {key: tensor.contiguous() for key, tensor in model.state_dict().items()}


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: str, state: Any
) -> None:
    """Write all that a training needs to go on, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "settings": settings, **state}, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def write_figures(job: Job, recipe: Recipe, state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Add a training's figures to the file of results; return them."""
    figures = {
        **job.about,
        "parameters": sum(p.numel() for p in job.model.parameters()),
        "metric": job.metric,
        "value": round(state["history"][-1], 4),
        "history": [round(value, 4) for value in state["history"]],
        "epochs_done": len(state["history"]),
        "recipe": dataclasses.asdict(recipe),
        "seconds": round(state["seconds"]),
        "cpu_seconds": round(state["cpu_seconds"]),
        "threads": torch.get_num_threads(),
        "machine": record.describe_machine(filter(importlib.util.find_spec, LIBRARIES)),
        "date": str(date.today()),
    }
    content = record.read_json(path, {})
    content[job.name] = figures
    record.write_json(path, dict(sorted(content.items())))
    return figures


def load_trained(model: nn.Module, name: str, cache: Path = CACHE) -> nn.Module:
    """Load what `train` wrote under this name.

    Raises:
        FileNotFoundError: It has not been trained here.
    """
    path = cache / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: train it first, see examples/README.md")
    model.load_state_dict(load_file(path))
    return model.eval()


def normalize(images: Tensor) -> Tensor:
    """Turn uint8 [n, 3, h, w] into what ImageNet networks take."""
    return (images.float() / 255 - MEAN) / STD


def make_parser(doc: str, prog: str, recipe: Recipe, networks: Any) -> argparse.ArgumentParser:
    """Return a parser of what all trainings are asked."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {prog}", description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("network", choices=sorted(networks))
    parser.add_argument("--scenes", type=Path, default=Path("data/scenes"))
    parser.add_argument("--limit", type=int, help="training scenes (default: all)")
    parser.add_argument("--val-limit", type=int, help="held-out scenes (default: all)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for weights")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of figures")
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(flag, action="store_true", default=value)
        else:
            parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")
    return parser


def read_recipe(given: argparse.Namespace) -> Recipe:
    """Return the recipe that arguments ask for."""
    return Recipe(**{f.name: getattr(given, f.name) for f in dataclasses.fields(Recipe)})


def iterate_rows(count: int, batch: int) -> Iterator[Tensor]:
    """Yield row numbers in order, a batch at a time."""
    yield from torch.arange(count).split(batch)
