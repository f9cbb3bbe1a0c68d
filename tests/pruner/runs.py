"""A network and images small enough that a whole run takes seconds, for the tests of the steps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import latency_tables
from pruner.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD

ROOT = Path(__file__).parents[2]
BEFORE = Path(__file__).with_name("run") / "run_of_before"
MODEL = "tiny_network:make"
SOURCE = '''
from torch import nn
from torch.nn import functional


class Tiny(nn.Module):
    """A stem, one residual block and a classifier of three classes on 16x16 images."""

    def __init__(self):
        super().__init__()
        self.default_cfg = {"input_size": (3, 16, 16)}
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = functional.relu(self.bn(self.stem(x)))
        y = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(x + self.bn2(self.conv2(y)))
        return self.head(x.mean((2, 3)))


def make():
    return Tiny()
'''


def prepare(folder: Path) -> Path:
    """Write the network's module and ``data/{train,test}/{red,green,blue}`` into a folder."""
    (folder / "tiny_network.py").write_text(SOURCE)
    dice = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, name in enumerate(("red", "green", "blue")):
            place = folder / "data" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = dice.integers(0, 120, (16, 16, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def restore_run(folder: Path) -> Path:
    """Copy ``run/run_of_before``, made of what prepare writes, as folder/RUN, of this machine."""
    run = folder / "RUN"
    shutil.copytree(BEFORE, run, ignore=shutil.ignore_patterns("plan-75.json"))
    table = json.loads((run / "latency.json").read_text())
    device = latency_tables.engine("onnxruntime", threads=1).device.at_batch(1)
    table["device"] = {**table["device"], **device.to_json()}
    (run / "latency.json").write_text(json.dumps(table))
    state = json.loads((run / "run.json").read_text())
    state["config"]["data"] = str(folder / "data")
    seal = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    (run / "run.json").write_text(json.dumps({**state, "seal": seal}))
    return run


def enter_copy(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy what prepare wrote to a place, and make that the current folder."""
    shutil.copytree(folder, place)
    monkeypatch.chdir(place)
    return place


def read_image(file: Path) -> torch.Tensor:
    """Return one of prepare's images as the network takes it [3, 16, 16]."""
    image = torch.tensor(np.array(Image.open(file))).permute(2, 0, 1) / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (image - mean[:, None, None]) / std[:, None, None]


def accuracy(module: nn.Module, folder: Path) -> float:
    """Share of prepare's test images that a network gets right."""
    right = []
    for label, name in enumerate(("blue", "green", "red")):  # classes are in the order of names
        for file in (folder / "data" / "test" / name).iterdir():
            with torch.no_grad():
                right.append(int(module(read_image(file)[None]).argmax()) == label)
    return float(np.mean(right))


def start(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """The command in a process of its own, on one thread: its results are then the same bits.

    more is added to its environment.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen(
        [sys.executable, "-m", "pruner", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """The command in two processes that know of each other, as `accelerate launch` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    together["ACCELERATE_USE_CPU"] = "true"
    return [
        start(folder, *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **together)
        for rank in range(2)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
