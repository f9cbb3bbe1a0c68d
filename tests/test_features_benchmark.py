"""The oracle of `benchmarks.features` tells right networks from wrong ones, whoever cut them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.features.__main__ import list_rows, run_row, say_runs
from benchmarks.features.checks import compare, find_kept, silence_positions, stamp
from benchmarks.features.rows import MODULES, QUESTIONS
from benchmarks.features.tools import Case, prune_by_msprune


@pytest.mark.parametrize("row", ["grouped convolutions", "functional operators"])
def test_small_modules_hold(row: str) -> None:
    answers = dict(run_row("msprune", row))
    wrong = {k: v for k, v in answers.items() if str(v).startswith(("no:", "differs"))}
    assert set(wrong) == {"own class"}, answers  # an fx.GraphModule
    assert answers["macs"] <= 0.6
    assert answers["reload"] == "without source"
    assert "MACs" in say_runs(answers)


def test_branches_are_refused() -> None:
    answers = dict(run_row("msprune", "branch on data"))
    assert answers["runs"].startswith("no: TraceError")


@pytest.mark.parametrize("question", ["whole attention heads", "criterion of one's own"])
def test_questions_are_answered(question: str) -> None:
    assert not QUESTIONS[question]("msprune", 0).startswith("no")
    assert question in list_rows()


def test_oracle_sees_a_wrong_cut(tmp_path: Path) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return stamp(MODULES["grouped convolutions"](), 0)

    x = torch.randn(2, 3, 32, 32)
    dense = make()
    small = prune_by_msprune(Case(make, x, 0.6, 0)).model.eval()
    kept = find_kept(dense, small)
    assert isinstance(kept, dict)
    assert any(not mask.all() for mask in kept.values())
    masked = silence_positions(dense, kept, small)
    with torch.no_grad():
        assert compare(small(x), masked(x)) < 1e-5
        wrong = copy.deepcopy(small)
        first = dict(wrong.named_parameters())["first.0.weight"]
        first.copy_(first.flip(0))  # channels in another order than what reads them
        assert isinstance(find_kept(dense, wrong), dict)
        assert compare(wrong(x), masked(x)) > 1e-3
        first.add_(1.0)
        assert find_kept(dense, wrong) == "first.0.weight holds other values"


def test_norms_are_taken_over_what_stays() -> None:
    dense = stamp(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), 0)
    places = [0, 2, 5]
    small = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    held = {
        name: tensor[:, places] if name == "2.weight" else tensor[places]
        for name, tensor in dense.state_dict().items() if name != "2.bias"
    }  # fmt: skip
    small.load_state_dict({**held, "2.bias": dense.state_dict()["2.bias"]})
    kept = find_kept(dense, small)
    assert isinstance(kept, dict)
    x = torch.randn(5, 4)
    with torch.no_grad():
        assert compare(small(x), silence_positions(dense, kept, small)(x)) < 1e-6
