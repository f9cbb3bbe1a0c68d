"""Tuning: its arithmetic, that it learns, and that a killed run ends as an undisturbed one."""

from __future__ import annotations

import copy
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pruner.data.image_folder import ImageData, open_images
from pruner.errors import PrunerError
from pruner.tuning.checkpoint import Checkpoint
from pruner.tuning.evaluate import evaluate
from pruner.tuning.loss import distillation_loss
from pruner.tuning.recipe import Recipe
from pruner.tuning.trainer import CHECKPOINT, finetune

from ..small import Small, image_folder

ROOT = Path(__file__).parents[3]
# Everything that has state: momentum, moving average, statistics, dropout-free random images.
FULL = Recipe(
    batch=8, lr=0.05, ema=0.9, accumulate=2, clip=1.0, recalibrate=16, warmup=0.5, mixup=0.3
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageData:
    return open_images(image_folder(tmp_path_factory.mktemp("images")), 8)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    """A student and a teacher."""
    torch.manual_seed(0)
    return Small().eval(), Small().eval()


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    other = right.state_dict()
    return all(torch.equal(value, other[name]) for name, value in left.state_dict().items())


class Killed(Exception):
    pass


class KilledAt:
    """Data that ends a run before its step number k."""

    def __init__(self, data: ImageData, k: int) -> None:
        self.data, self.left = data, k

    def train(self, *args, augment=True, **named):
        batches = self.data.train(*args, augment=augment, **named)
        return _KilledBatches(batches, self) if augment else batches

    def test(self, *args, **named):
        return self.data.test(*args, **named)

    def fingerprint(self) -> str:
        return self.data.fingerprint()


class _KilledBatches:
    def __init__(self, batches, owner: KilledAt) -> None:
        self.batches, self.owner = batches, owner

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0):
        for pair in self.batches.epoch(epoch, start):
            if not self.owner.left:
                raise Killed
            self.owner.left -= 1
            yield pair


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_step_is_that_of_the_plain_loop(data, optimizer):
    recipe = Recipe(
        batch=36, optimizer=optimizer, lr=0.01, weight_decay=0.1, recalibrate=0, channels_last=False
    )
    student, teacher = networks()
    plain = copy.deepcopy(student).train()
    finetune(student, teacher, data, 1, recipe=recipe, seed=3)
    images, labels = next(data.train(36, seed=3).epoch(0))
    loss = distillation_loss(plain(images), teacher(images).detach(), labels, recipe)
    loss.backward()
    for parameter in plain.parameters():
        decay = 0.1 if parameter.ndim > 1 else 0.0
        gradient, old = parameter.grad, parameter.detach().clone()
        if optimizer == "sgd":  # the first Nesterov step: g + momentum * g
            gradient = gradient + decay * old
            new = old - 0.01 * 1.9 * gradient
        else:
            new = old * (1 - 0.01 * decay) - 0.01 * gradient / (gradient.abs() + 1e-8)
        parameter.data.copy_(new)
    for name, value in plain.named_parameters():
        assert torch.allclose(student.get_parameter(name), value, atol=1e-6), name


def test_a_network_learns_and_its_history_says_so(data):
    student, _ = networks()
    events = []
    recipe = Recipe(batch=8, lr=0.1, distill=0.0)
    history = finetune(student, None, data, 6, recipe=recipe, progress=events.append)
    result = evaluate(student, data.test())
    assert result.accuracy > 0.9
    assert history.accuracy == result.accuracy and not student.training
    assert all(p.is_contiguous() for p in student.parameters())  # files hold no other layout
    assert [e.epoch for e in history.epochs] == [1, 2, 3, 4, 5, 6]
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert history.steps == 6 * 4 and history.resumed_at is None
    assert events[0].kind == "recalibrate"
    ends = [e for e in events if e.kind == "epoch"]
    assert [(e.epoch, e.step, e.steps) for e in ends] == [(k, 4 * k, 24) for k in range(1, 7)]
    assert ends[-1].eta_s == 0 and ends[-1].test_accuracy == result.accuracy


def test_a_student_comes_to_answer_as_its_teacher(data):
    student, teacher = networks()
    finetune(teacher, None, data, 4, recipe=Recipe(batch=8, lr=0.1))
    before = copy.deepcopy(teacher)
    finetune(student, teacher, data, 6, recipe=Recipe(batch=8, lr=0.1, distill=1.0))
    images = torch.cat([x for x, _ in data.test()])
    with torch.no_grad():
        alike = (student(images).argmax(1) == teacher(images).argmax(1)).double().mean()
    assert alike > 0.9 and same(before, teacher) and not teacher.training


def test_no_epochs_only_recalibrate(data):
    student, teacher = networks()
    before = copy.deepcopy(student.state_dict())
    history = finetune(student, teacher, data, 0)
    assert history.epochs == () and history.accuracy is None
    changed = {k for k, v in student.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all("running" in k or "tracked" in k for k in changed)


def test_the_callers_random_numbers_are_not_disturbed(data):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finetune(*networks(), data, 1, recipe=FULL)
    torch.manual_seed(5)
    student, teacher = networks()
    torch.manual_seed(5)
    finetune(student, teacher, data, 1, recipe=FULL)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "lr": 1e-3}, {"amp": "bf16"}])
@pytest.mark.parametrize("kills", [[1], [3, 2], [4], [6, 1]])
def test_a_stopped_run_ends_with_the_same_bits(data, tmp_path, changes, kills):
    recipe = replace(FULL, **changes)
    whole, teacher = networks()
    expected = finetune(whole, teacher, data, 2, recipe=recipe)
    for k in kills:
        student, teacher = networks()
        with pytest.raises(Killed):
            finetune(
                student,
                teacher,
                KilledAt(data, k),
                2,
                recipe=recipe,
                out=tmp_path,
                checkpoint_s=0,
            )
    student, teacher = networks()
    events = []
    found = finetune(student, teacher, data, 2, recipe=recipe, out=tmp_path, progress=events.append)
    assert same(whole, student)
    assert [replace(e, seconds=0) for e in found.epochs] == [
        replace(e, seconds=0) for e in expected.epochs
    ]
    assert found.resumed_at == sum(kills) and events[0].kind == "resume"
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_finished_run_is_not_done_again(data, tmp_path):
    first, teacher = networks()
    done = finetune(first, teacher, data, 1, recipe=FULL, out=tmp_path)
    again, teacher = networks()
    found = finetune(again, teacher, KilledAt(data, 0), 1, recipe=FULL, out=tmp_path)
    assert same(first, again) and found.epochs == done.epochs and found.resumed_at == 4


def test_the_checkpoint_of_another_run_is_refused_by_name(data, tmp_path):
    student, teacher = networks()
    finetune(copy.deepcopy(student), teacher, data, 1, recipe=FULL, out=tmp_path)
    for key, named in {
        r"recipe\.lr \(0\.05 there, 0\.1 here\)": {"recipe": replace(FULL, lr=0.1)},
        r"seed \(0 there, 1 here\)": {"recipe": FULL, "seed": 1},
    }.items():
        with pytest.raises(PrunerError, match=key):
            finetune(copy.deepcopy(student), teacher, data, 1, out=tmp_path, **named)
    with pytest.raises(PrunerError, match="differs in network"):
        finetune(networks()[1], teacher, data, 1, recipe=FULL, out=tmp_path)
    with pytest.raises(PrunerError, match="differs in teacher"):
        finetune(student, networks()[0], data, 1, recipe=FULL, out=tmp_path)


def test_a_damaged_checkpoint_is_refused(data, tmp_path):
    path = tmp_path / CHECKPOINT
    finetune(*networks(), data, 1, recipe=FULL, out=tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(PrunerError, match="not a readable checkpoint file"):
        finetune(*networks(), data, 1, recipe=FULL, out=tmp_path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PrunerError, match="edited"):
        finetune(*networks(), data, 1, recipe=FULL, out=tmp_path)


def test_misuse_is_told(data):
    student, teacher = networks()
    with pytest.raises(PrunerError, match="lower lr"):
        finetune(student, teacher, data, 2, recipe=Recipe(batch=8, lr=1e30))
    with pytest.raises(PrunerError, match="epochs"):
        finetune(student, teacher, data, -1)
    with pytest.raises(PrunerError, match=r"\[36, 3\] .* \[36, 192\]"):
        finetune(networks()[0], torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Flatten()),
                 data, 1)  # fmt: skip
    for bad in (
        {"batch": 0}, {"accumulate": 999}, {"optimizer": "lion"}, {"lr": 0.0}, {"amp": "int8"},
        {"distill": 1.5}, {"temperature": 0.0}, {"ema": 1.0}, {"warmup": -1.0},
    ):  # fmt: skip
        with pytest.raises(PrunerError, match=f"^{next(iter(bad))}: expected"):
            Recipe(**bad)


SCRIPT = """
import sys, time
import torch
from tests.pruner.tuning.test_trainer import FULL, networks
from pruner.data import open_images
from pruner.tuning import finetune
from pruner.utils import leave_process_group
from safetensors.torch import save_file

images, out, pause, epochs = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
student, teacher = networks()
shown = teacher.forward
def slow(x):
    time.sleep(pause)
    return shown(x)
teacher.forward = slow
history = finetune(student, teacher, open_images(images, 8), epochs, recipe=FULL, out=out,
                   checkpoint_s=0)
from accelerate import PartialState
rank = PartialState().process_index
save_file(student.state_dict(), f"{out}/result{rank}.safetensors")
print(history.accuracy, history.epochs[-1].loss, flush=True)
leave_process_group()
"""


def _script(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_run_killed_by_sigkill_ends_with_the_same_bits(data, tmp_path):
    whole, teacher = networks()
    finetune(whole, teacher, data, 5, recipe=FULL)
    victim = _script(data.folder, tmp_path, 0.05, 5)
    deadline = time.monotonic() + 60
    while not (tmp_path / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    reached = Checkpoint.load(tmp_path / CHECKPOINT).step
    assert 0 < reached < 20
    student, teacher = networks()
    history = finetune(student, teacher, data, 5, recipe=FULL, out=tmp_path)
    assert history.resumed_at == reached and same(whole, student)


def test_two_processes_tune_one_network(data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        _script(
            data.folder, tmp_path, 0, 8,
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port, ACCELERATE_USE_CPU="true",
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=120)[0] for process in processes]
    assert [p.returncode for p in processes] == [0, 0]
    assert told[0] == told[1]  # both know the accuracy over all images
    files = [(tmp_path / f"result{rank}.safetensors").read_bytes() for rank in range(2)]
    assert files[0] == files[1]
    accuracy, loss = map(float, told[0].split())
    assert accuracy > 1 / 3 and math.isfinite(loss)


def test_steps_take_the_place_of_epochs_and_may_stop_on_the_way(data, tmp_path):
    """Stopped before a step, it goes on as an undisturbed run does."""
    whole, teacher = networks()
    history = finetune(whole, teacher, data, 0, recipe=FULL, steps=7)
    for until in (1, 4, 5, None):
        module, _ = networks()
        told = finetune(module, teacher, data, 0, recipe=FULL, steps=7, until=until, out=tmp_path)
    assert history.steps == told.steps == 7 and told.resumed_at == 5
    assert [e.loss for e in history.epochs] == [e.loss for e in told.epochs]
    assert same(whole, module)
    with pytest.raises(PrunerError, match="steps"):
        finetune(networks()[0], teacher, data, 0, recipe=FULL, steps=8, out=tmp_path)
