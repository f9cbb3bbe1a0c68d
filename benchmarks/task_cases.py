"""The rows of `benchmarks.tasks`: trained networks, what each is for, and what it needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import record

WHEELS = "data/wheels"
CACHE = "benchmarks/cache"


@dataclass(frozen=True)
class Case:
    """A trained network, how much of its data is looked at, and how it is tuned.

    Attributes:
        config: The network, its data and its task, as `pruner.run.Config` reads them.
        needs: Files, each with the module and arguments that make it; "" where it is fetched.
        fit: Training samples that scores and repair look at.
        batch: Samples at once.
        test: Test samples that the metric is of.
        epochs: Of tuning.
        train: Training samples of an epoch.
        recipe: Of tuning, what differs from the default.
    """

    config: Mapping[str, Any]
    needs: Mapping[str, str]
    fit: int = 256
    batch: int = 16
    test: int = 500
    epochs: int = 2
    train: int = 2000
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make what is missing and can be made; SystemExit says what cannot."""
        for path, command in self.needs.items():
            if (record.ROOT / path).exists():
                continue
            if not command:
                raise SystemExit(f"{path} is missing: examples/README.md says how to get it")
            print(f"python -m {command}", flush=True)
            subprocess.run([sys.executable, "-m", *command.split()], cwd=record.ROOT, check=True)

    @property
    def name(self) -> str:
        """The task's name."""
        task = self.config["task"]
        return str(task["name"] if isinstance(task, Mapping) else task)


def make_dense_case(
    network: str, module: str, options: str, data: str, config: Mapping[str, Any], **others: Any
) -> Case:
    """Return the case of a network that ``examples`` trains on scenes.

    Args:
        network: Its name there.
        module: Of examples, which trains it.
        options: Of that training.
        data: The folder of scenes.
        config: What else `Case.config` says.
        **others: What else a Case says.
    """
    weights = f"{CACHE}/{network}.safetensors"
    train = f"examples.{module} {network} --scenes {data} {options}"
    config = {"weights": weights, "data": data, **config}
    return Case(config, {f"{data}/train": "", weights: train}, **others)


ADAMW: Mapping[str, Any] = {"optimizer": "adamw", "clip": 5.0, "warmup": 0.25}
CASES: Mapping[str, Case] = {
    "crnn": Case(
        {
            "model": "examples.trained:load_recognizer", "input": "1x1x64x320",
            "data": "data/words/lines", "task": {"name": "recognition", "mean": 0.5, "std": 0.5},
        },
        {"data/words/lines/train": "", WHEELS: ""},
        recipe={**ADAMW, "lr": 5e-4},
    ),
    "minilm": Case(
        {
            "model": "examples.trained:load_encoder",
            "input": ["input_ids=1x64:int", "attention_mask=1x64:ones"],
            "data": "data/sentences",
            "task": {"name": "embedding", "tokenizer": "examples.trained:name_tokens"},
        },
        {"data/sentences/val/texts.csv": "examples.sentences data/sentences", WHEELS: ""},
        recipe={**ADAMW, "lr": 3e-4},
    ),
    "unet": make_dense_case(
        "unet", "depth", "--epochs 4 --limit 1500 --bf16", "data/scenes128",
        {
            "model": "examples.networks:UNet", "input": "1x3x128x128",
            "task": {
                "name": "depth", "answers": "logarithms", "loss": "log_l1", "scale": 1e-4,
            },
        },
        train=1000, recipe={**ADAMW, "lr": 1e-3},
    ),
    "lraspp_mobilenet_v2": make_dense_case(
        "lraspp_mobilenet_v2", "segmentation", "--epochs 4 --bf16", "data/scenes128",
        {
            "model": "examples.networks:lraspp_mobilenet_v2", "input": "1x3x128x128",
            "task": "segmentation",
        },
        train=1000, recipe={**ADAMW, "lr": 5e-4},
    ),
    "ssdlite_mobilenet_v2": make_dense_case(
        "ssdlite_mobilenet_v2", "detection", "", "data/scenes",
        {
            "model": "examples.networks:ssdlite_mobilenet_v2", "submodule": "backbone",
            "task": "detection",
        },
        train=1000, recipe={**ADAMW, "lr": 3e-4},
    ),
}  # fmt: skip
"""In the order in which they are run."""
