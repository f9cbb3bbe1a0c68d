"""The zoo's columns pass what is right and fail what is wrong; lines of before are done anew."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

import pruner
from benchmarks.zoo import __main__ as runner
from benchmarks.zoo import columns, examine, listing
from benchmarks.zoo.model_state import describe_model, require_unchanged
from benchmarks.zoo.solving import solve_budgets
from benchmarks.zoo.subject import Failure, Subject

from .pruner.networks import Residual


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    model = Residual().eval()
    listing.randomize(model)
    x = torch.randn(2, 3, 32, 32)
    net = pruner.trace(model, (x,))
    return Subject(model, (x,), {}, net, pruner.Plan.random(net, 0.5))


def test_a_network_passes_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    example = Residual().eval(), (torch.randn(2, 3, 32, 32),), {}
    monkeypatch.setattr(examine, "build", lambda name: example)
    line = examine.examine("own:residual")
    assert line["result"] == "ok", line
    assert {line[column] for column in examine.PASSED} == {"ok"}


def test_budgets_are_solved_and_their_plans_verified(subject: Subject) -> None:
    line = solve_budgets(subject)
    assert line["solve60"] == "optimal"
    assert line["verify60"] < 1e-5


class Swapped(nn.Module):
    """A pruned module that is wrong at other inputs than the traced ones."""

    def __init__(self, module: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.module(x)
        return y if x.shape == self.shape else y + 1


@pytest.mark.parametrize("column", ["batch", "size"])
def test_what_is_silently_wrong_elsewhere_fails(subject: Subject, column: str) -> None:
    shape = subject.args[0].shape
    wrong = replace(subject, model=Swapped(subject.model, shape))
    with pytest.raises(Failure, match="differs"):
        columns.CHECKS[column](wrong)


class PooledFlat(nn.Module):
    """Folds channels with the map, and heads with the batch: positions that sizes decide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 1)
        self.qkv, self.last = nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mix(self.stem(x).relu())
        y = (y.flatten(1) * 2).view(x.shape[0], 16, -1).transpose(1, 2)
        q, k, v = self.qkv(y).view(x.shape[0], -1, 3, 4, 4).permute(2, 0, 3, 1, 4).flatten(1, 2)
        y = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
        return self.last(y.view(x.shape[0], 4, -1, 4).mean(2).flatten(1))


@pytest.fixture(scope="module")
def folded() -> Subject:
    torch.manual_seed(0)
    model, x = PooledFlat().eval(), torch.randn(2, 3, 32, 32)
    net = pruner.trace(model, (x,))
    return Subject(model, (x,), {}, net, pruner.Plan.random(net, 0.5))


def test_budgets_are_of_one_image_where_heads_are_folded_with_the_batch(folded: Subject) -> None:
    assert max(size for cell in folded.net.cells() for size in cell.dense_sizes) == 48
    assert solve_budgets(folded)["solve30"] == "optimal"


@pytest.mark.parametrize("column", ["batch", "size"])
def test_a_cut_that_is_wrong_at_other_inputs_fails(folded: Subject, column: str) -> None:
    assert columns.CHECKS[column](folded) is None
    wrong = replace(folded)
    vars(wrong)["small"] = Swapped(folded.small, folded.args[0].shape)
    with pytest.raises(Failure, match="differs from the masked"):
        columns.CHECKS[column](wrong)


def test_lost_names_fail(subject: Subject) -> None:
    model = Residual()
    model.register_buffer("extra", torch.zeros(3))
    with pytest.raises(Failure, match="1 lost by trace: extra"):
        columns.check_names(replace(subject, model=model))


def test_a_changed_model_is_noticed() -> None:
    for change in (
        lambda m: m.norm.running_mean.add_(1),
        lambda m: setattr(m, "cache", torch.zeros(1)),
        lambda m: m.norm.train(not m.norm.training),
        lambda m: m.stem.register_forward_hook(lambda *_: None),
        lambda m: setattr(m, "stem", nn.Conv2d(3, 8, 3)),
    ):
        model = Residual().eval()
        before = describe_model(model)
        require_unchanged(before, model)
        change(model)
        with pytest.raises(Failure, match="changed"):
            require_unchanged(before, model)


def test_lines_without_new_columns_are_to_be_done() -> None:
    full = {"name": "a", "result": "ok", **dict.fromkeys(examine.PASSED, "ok")}
    old = {"name": "b", "result": "ok", "train": "ok"}
    crashed = {"name": "c", "result": "trace: no"}
    assert runner.find_finished(pd.DataFrame([full, old, crashed])) == {"a", "c"}


def test_every_library_lists_networks() -> None:
    pytest.importorskip("torchvision", reason="needs the extra 'zoo'")
    names = listing.list_architectures()
    assert {name.partition(":")[0] for name in names} == set(listing.LIBRARIES)
    assert len(names) > 280


def test_a_killed_line_says_so() -> None:
    def end(code: str) -> str:
        command = [sys.executable, "-c", code]
        return runner.explain_end(subprocess.run(command, capture_output=True, text=True))

    assert end("import os; os.kill(os.getpid(), 9)").startswith("ended by SIGKILL, for lack of")
    assert end("import os; os.abort()") == "ended by SIGABRT"
    assert end("raise KeyError('no such layer')") == "KeyError: 'no such layer'"
    assert end("raise SystemExit(3)") == "no output, exit 3"
