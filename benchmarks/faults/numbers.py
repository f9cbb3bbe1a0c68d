"""Numbers and data at their ends: NaN, no images, one pixel, batch 1, nothing to prune."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from . import commands
from .cases import Case, Result, judge_refusal
from .commands import Said
from .scene import RUN, Scene

SOURCES = {
    "norm_at_one": """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.default_cfg = {"input_size": (3, 16, 16)}
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.conv(self.bn(self.pool(self.stem(x)))).flatten(1))

def make():
    return Net()
""",
    "nothing_to_prune": """
from torch import nn

def make():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    net.default_cfg = {"input_size": (3, 4, 4)}
    return net
""",
    "not_a_number": """
import torch
import tiny_network

def make():
    net = tiny_network.make()
    with torch.no_grad():
        net.conv1.weight[0] = float("nan")
    return net

def infinite():
    net = tiny_network.make()
    with torch.no_grad():
        net.conv2.weight.fill_(3e38)
    return net
""",
    "nan_task": """
import torch
from pruner.tasks import Classification

class NanLoss(Classification):
    def loss(self, outputs, targets):
        found = super().loss(outputs, targets)
        return found * float("nan")

class NanGradient(Classification):
    def loss(self, outputs, targets):
        found = super().loss(outputs, targets)
        bad = (outputs * 0).sum().sqrt()
        return found + bad

def loss(data):
    return _open(NanLoss, data)

def gradient(data):
    return _open(NanGradient, data)

def _open(kind, data):
    from pruner.data import open_images
    return kind(open_images(data, 16))
""",
}  # fmt: skip
READ = ["--images", "16", "--set", "score.batch_size=4"]
Attempt = Callable[[Scene, Path], Result]


def list_cases(scene: Scene, seed: int) -> list[Case]:
    """Return all cases."""
    return [
        Case("numbers", number, kind, lambda place, one=attempt: _begin(scene, one, place))  # type: ignore[misc]
        for number, (kind, attempt) in enumerate(_list_attempts())
    ]


def _begin(scene: Scene, attempt: Attempt, place: Path) -> Result:
    place.mkdir(parents=True)
    shutil.copy(scene.work / "tiny_network.py", place)
    for name, text in SOURCES.items():
        (place / f"{name}.py").write_text(text, encoding="utf-8")
    return attempt(scene, place)


def _list_attempts() -> Iterator[tuple[str, Attempt]]:
    for kind, model in (("NaN in the weights", "not_a_number:make"),
                        ("weights near infinity", "not_a_number:infinite"),
                        ("batch norm of one value", "norm_at_one:make"),
                        ("nothing can be pruned", "nothing_to_prune:make")):  # fmt: skip
        for criterion in ("measured", "magnitude", "taylor"):
            yield f"{kind}", _go(model, solve=["--criterion", criterion])
    yield (
        "batch norm of one value, trained with batch 1",
        _go("norm_at_one:make", finetune=["--batch", "1"]),
    )
    yield (
        "batch norm of one value, repaired on one image",
        _go("norm_at_one:make", finetune=["--repair", "1", "--batch", "8"]),
    )
    yield "batch norm, trained with batch 1", _go("tiny_network:make", finetune=["--batch", "1"])
    yield "a last batch of one image", _go("norm_at_one:make", finetune=["--batch", "71"])
    for name in ("loss", "gradient"):
        yield f"NaN {name}", _go("tiny_network:make", task=f"nan_task:{name}")
    for kind, write in DATA.items():
        yield kind, _go("tiny_network:make", write=write)
    for budget in ("100%", "99.999%", "100.001%", "0.0001%", "1e-300ms", "1e300fps", "1e-9fps"):
        yield f"a budget of {budget}", _go("tiny_network:make", budget=budget)
    yield "a learning rate that diverges", _go("tiny_network:make", finetune=["--lr", "1e9"])
    yield (
        "more images asked for than there are",
        _go("tiny_network:make", solve=["--images", "9999"]),
    )
    yield "one probe", _go("tiny_network:make", probes="2")


def _go(
    model: str,
    *,
    budget: str = "70%",
    solve: Sequence[str] = (),
    finetune: Sequence[str] = (),
    task: str | None = None,
    write: Callable[[Path], object] | None = None,
    probes: str = "4",
) -> Attempt:
    """Return what goes the whole way, to where it is refused or to a network of finite answers."""

    def attempt(scene: Scene, place: Path) -> Result:
        data = scene.data
        if write is not None:
            data = place / "data"
            write(data)
        extra = ["--task", task] if task else []
        steps = (
            ["measure", model, "--out", RUN, "--probes", probes, "--quick", "--library", "none"],
            ["solve", RUN, "--budget", budget, "--data", str(data), "--no-check", *READ, *extra,
             *solve],
            ["finetune", RUN, "--epochs", "1", "--batch", "8", *finetune],
            ["report", RUN],
        )  # fmt: skip
        for words in steps:
            said = commands.run(words, place)
            result = judge_refusal(said)
            if result is not None:
                return Result(result.held, result.how, f"{words[0]}: {result.detail}")
        return _check_answers(place)

    return attempt


def _check_answers(place: Path) -> Result:
    def use() -> None:
        import torch

        import pruner

        network = pruner.load(place / RUN)
        assert torch.isfinite(network(torch.rand(2, 3, 16, 16))).all(), "answers are not finite"

    said: Said = commands.call(use, place)
    if said.code != 0:
        return Result.fail(f"the tuned network: {said.err[-600:]}")
    return Result.survive("goes through, finite")


def write_images(
    data: Path, sizes: Mapping[str, Sequence[tuple[int, int]]], mode: str = "RGB"
) -> None:
    """Write ``data/SPLIT/CLASS/N.png`` of sizes [width, height], by class; an empty class too."""
    dice = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, found in sizes.items():
            folder = data / split / label
            folder.mkdir(parents=True)
            for number, (width, height) in enumerate(found):
                pixels = dice.integers(0, 255, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")


USUAL = [(16, 16)] * 8
CLASSES = ("blue", "green", "red")
_WHOLE: dict[str, Sequence[tuple[int, int]]] = dict.fromkeys(CLASSES, USUAL)


def _write_without_test(data: Path) -> None:
    write_images(data, _WHOLE)
    for path in (data / "test" / "green").iterdir():
        path.unlink()


def _write_damaged(data: Path, size: int) -> None:
    write_images(data, _WHOLE)
    file = data / "train" / "red" / "0.png"
    file.write_bytes(file.read_bytes()[:size])


DATA: dict[str, Callable[[Path], object]] = {
    "a class without images": lambda data: write_images(data, {**_WHOLE, "green": []}),
    "a class without images to test on": _write_without_test,
    "no images at all": lambda data: write_images(data, dict.fromkeys(CLASSES, [])),
    "one-pixel images": lambda data: write_images(data, dict.fromkeys(CLASSES, [(1, 1)] * 8)),
    "images of one line": lambda data: write_images(
        data, dict.fromkeys(CLASSES, [(300, 1), (1, 300)] * 4)
    ),
    "one image": lambda data: write_images(data, {"blue": USUAL[:1], "green": [], "red": []}),
    "one image a class": lambda data: write_images(data, dict.fromkeys(CLASSES, USUAL[:1])),
    "grey images": lambda data: write_images(data, _WHOLE, "L"),
    "a truncated image": lambda data: _write_damaged(data, 100),
    "an empty file among the images": lambda data: _write_damaged(data, 0),
    "two classes for a network of three": lambda data: write_images(
        data, {"blue": USUAL, "red": USUAL}
    ),
    "four classes for a network of three": lambda data: write_images(
        data, dict.fromkeys("abcd", USUAL)
    ),
    "no folder": lambda data: None,
    "a file for a folder": lambda data: data.write_bytes(b"x"),
    "an empty folder": lambda data: data.mkdir(),
}
