"""docs/extending.md: its code runs, is short, and its task works on the command line."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import latency_tables
from pruner.axes.rules import RULES
from pruner.run.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


def read_sections() -> dict[str, list[str]]:
    """The Python of every section by its title."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return {
        title: re.findall(r"```python\n(.*?)```", text, re.S)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def run_section(title: str) -> dict[str, Any]:
    """Run a section's code as one module, and return what it leaves."""
    space: dict[str, Any] = {"__name__": "extending"}
    torch.manual_seed(0)
    for code in read_sections()[title]:
        exec(code, space)
    return space


def test_every_extension_is_short() -> None:
    sections = read_sections()
    assert list(sections) == ["A rule", "An engine", "A criterion", "A task"]
    assert all(len(codes[0].splitlines()) < 60 for codes in sections.values())


def test_a_rule_lets_an_operator_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "scale_channels", raising=False)
    space = run_section("A rule")
    monkeypatch.delitem(RULES, "scale_channels")
    assert space["net"].dims and not space["net"].axis_map.unsupported
    assert 0 < len(space["small"].factors) < 16
    assert space["difference"] < 1e-5


def test_an_engine_measures_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(latency_tables.measure, probes=5)
    monkeypatch.setattr(latency_tables, "measure", quick)
    threads = torch.get_num_threads()
    try:
        space = run_section("An engine")
    finally:
        torch.set_num_threads(threads)
    table = space["table"]
    assert table.device.engine == "torchscript" and table.uncut_ms(space["net"]) > 0
    assert table.error.median < 0.5


def test_a_criterion_scores() -> None:
    space = run_section("A criterion")
    scores, same = space["scores"], space["same"]
    assert scores.criterion == "snip"
    for name, dim in space["net"].dims.items():
        assert torch.allclose(*(torch.as_tensor(one.total(name)) for one in (scores, same)))
        assert len(space["plan"].keep[name]) < dim.size


def test_the_worked_example_runs_in_python() -> None:
    space = run_section("A task")
    dense, history = space["dense"], space["history"]
    assert dense.value < 2.5 and history.value < 1.5 * dense.value + 0.5


def test_the_worked_example_runs_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("keypoints.py").write_text(read_sections()["A task"][0])
    lines = [
        "model: keypoints:make_network", "input: 1x1x16x16", "out: RUN", "budgets: [75%]",
        "task: {name: 'keypoints:Keypoints', count: 24}",
        "measure: {quick: true, probes: 5, library: none}", "solve: {check: false}",
        "score: {images: 16, batch_size: 4}", "finetune: {epochs: 1, batch: 8}",
    ]  # fmt: skip
    Path("run.yaml").write_text("\n".join(lines))
    assert main(["run", "run.yaml"]) == 0
    found = json.loads(Path("RUN/metrics.json").read_text())
    assert found["metric"]["unit"] == "pixels" and found["pruned"]["distance"] > 0
