"""Odd tasks and data: each is right, or refused in one clear line that leaves the RUN as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pruner.run.cli import main

SOURCE = '''
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import pruner
from pruner.data import wrap_datasets
from pruner.tasks import MeanMetric, Metric, MetricKind


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.default_cfg = {"input_size": (3, 8, 8)}
        # Wide enough that its layers take the time, not the runtime's overhead.
        self.first, self.norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.second, self.head = nn.Conv2d(64, 64, 3, padding=1), nn.Linear(64, 4)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.head(self.second(x).relu().mean((2, 3)))


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


torch.export.register_dataclass(Answer)


class Recorded(Net):
    """The same answer in a dataclass."""

    def forward(self, x):
        return Answer(super().forward(x))


def draw(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [(torch.randn(3, 8, 8, generator=rng), torch.tensor(k % 4)) for k in range(count)]


def label_loss(outputs, labels):
    return cross_entropy(outputs, labels)


SHARE = (MetricKind("share"), lambda outputs, labels: outputs.argmax(1) == labels)


def make(data=None, loss=label_loss, metric=SHARE, **more):
    return pruner.make_task(data=data or (draw(16), draw(8, 1)), loss=loss, metric=metric, **more)


def plain():
    return make()


def one_sample():
    return make((draw(1), draw(1, 1)))


def stream():
    return make(((pair for pair in draw(16)), (pair for pair in draw(8, 1))))


def nan_loss():
    return make(loss=lambda outputs, labels: outputs.sum() * float("nan"))


def list_loss():
    return make(loss=lambda outputs, labels: [1.0])


def vector_loss():
    return make(loss=lambda outputs, labels: cross_entropy(outputs, labels, reduction="none"))


def raising_loss():
    return make(loss=lambda outputs, labels: outputs[9, 9, 9])


def nan_divergence():
    def compare(outputs, dense, temperature):
        return pruner.tasks.Total((outputs - dense).sum() * float("nan"), len(dense))

    return make(divergence=compare)


def wrong_divergence():
    return make(divergence=lambda outputs, dense, temperature: 0.5)


def nan_metric():
    return make(metric=(MetricKind("share"), lambda o, t: o[:, 0] * float("nan")))


def raising_metric():
    return make(metric=(MetricKind("share"), lambda o, t: o["scores"]))


def no_read():
    return make(read=lambda found: found["scores"])


def raising_forward():
    return make(forward=lambda module, inputs, targets: module(inputs)["scores"])


def record():
    return make(read=lambda found: found.logits if hasattr(found, "logits") else found["logits"])


class Odd(pruner.Task):
    """Data of the user's own making."""

    name = "odd"

    def loss(self, outputs, targets):
        return cross_entropy(outputs, targets)

    def metric(self):
        return MeanMetric(*SHARE)


class Batches:
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)

    def epoch(self, number, start=0):
        return iter(self.batches[start:])


class Data:
    def __init__(self, change):
        self.change = change

    def train(self, batch=8, **more):
        found = [(torch.randn(8, 3, 8, 8), torch.arange(8) % 4) for _ in range(2)]
        return self.change(Batches(found))

    def test(self, batch=8, **more):
        return self.train()

    def fingerprint(self):
        return "odd"


def odd(change):
    task = Odd()
    task.data = Data(change)
    return task


def empty_batch():
    def change(found):
        found.batches.append((torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.long)))
        return found

    return odd(change)


def no_batch():
    return odd(lambda found: Batches([]))


def no_length():
    return odd(lambda found: (batch for batch in found))


def on_meta():
    return odd(lambda found: Batches([(x, y.to("meta")) for x, y in found]))


def double_targets():
    def change(found):
        return Batches([(x, nn.functional.one_hot(y, 4).double()) for x, y in found])

    task = odd(change)
    task.metric = lambda: None
    task.loss = lambda outputs, targets: (outputs - targets).square().mean().float()
    return task


def listed():
    task = Odd()
    task.data = draw(8)
    return task


def no_data():
    return Odd()
'''
MEASURE = ("--quick", "--probes", "5", "--library", "none", "--seed", "3")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module above, and a RUN and one of records, measured and solved."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd_tasks.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for name in ("Net", "Recorded"):
            assert main(["measure", f"odd_tasks:{name}", "--out", name, *MEASURE]) == 0
            solve = ["solve", name, "--budget", "75%", "--no-check", "--criterion", "magnitude"]
            assert main(solve) == 0
    return folder


@pytest.fixture
def here(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(begun, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(begun))
    return folder


SOLVE = ("solve", "--budget=70%", "--no-check", "--images=8", "--criterion=measured")
TUNE = ("finetune", "--epochs", "1", "--batch", "8")
WRONG = {
    "nan_loss": (TUNE, "no longer finite"),
    "list_loss": (TUNE, "the loss is list, expected a tensor of one number"),
    "vector_loss": (TUNE, "the loss is [8], expected a tensor of one number"),
    "raising_loss": (TUNE, "loss failed: IndexError"),
    "nan_divergence": (SOLVE, "finite"),
    "wrong_divergence": (SOLVE, "divergence gave a float"),
    "nan_metric": (TUNE, "share is nan"),
    "raising_metric": (TUNE, "metric share failed"),
    "raising_forward": (SOLVE, "calling the network on a batch failed"),
    "no_read": (SOLVE, "failed"),
    "empty_batch": (TUNE, "is empty: its inputs hold no sample"),
    "empty_batch ": (SOLVE, "is empty: its inputs hold no sample"),
    "no_batch": (TUNE, "no images; the loader is empty"),
    "no_length": (TUNE, "expected batches with __len__"),
    "on_meta": (TUNE, "on meta"),
    "listed": (TUNE, "its data is a list"),
    "no_data": (TUNE, "has no data"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_one_line_and_leaves_the_run(case: str, here: Path, capsys) -> None:
    (verb, *options), words = WRONG[case]
    run = here / "Net"

    def read() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    before = read()
    assert main([verb, "Net", *options, "--task", f"odd_tasks:{case.strip()}"]) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("msprune:"))
    assert words in line
    after = read()
    if "dense" in json.loads(after["run.json"])["steps"]:  # evaluated by then, and kept
        before.pop("run.json"), after.pop("run.json")
    assert after == before


RIGHT = {
    "one_sample": ("Net", ("--repair", "1")),
    "stream": ("Net", ("--repair", "8")),
    "plain": ("Net", ("--repair", "8")),  # a batch larger than all samples
    "double_targets": ("Net", ()),
    "record": ("Recorded", ("--repair", "8")),
}


@pytest.mark.parametrize("case", sorted(RIGHT))
def test_what_is_odd_but_right_is_done(case: str, here: Path) -> None:
    run, options = RIGHT[case]
    tune = ["finetune", run, "--epochs", "2", "--batch", "64", *options]
    assert main([*tune, "--task", f"odd_tasks:{case}"]) == 0
    found = json.loads((here / run / "metrics.json").read_text())["pruned"]
    assert found.get("share", found.get("divergence_from_dense")) is not None
