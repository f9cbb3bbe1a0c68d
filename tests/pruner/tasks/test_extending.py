"""docs/extending.md: its code runs, is short, and its task works on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pruner.run.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


def read_code() -> tuple[str, str]:
    """The task with its network, and the steps in Python."""
    task, steps = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return task, steps


def test_the_worked_example_runs_in_python() -> None:
    task, steps = read_code()
    assert len(task.splitlines()) < 60
    space: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(task, space)
    exec(steps, space)
    dense, history = space["dense"], space["history"]
    assert dense.value < 2.5 and history.value < 1.5 * dense.value + 0.5


def test_the_worked_example_runs_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("keypoints.py").write_text(read_code()[0])
    lines = [
        "model: keypoints:make_network", "input: 1x1x16x16", "out: RUN", "budgets: [60%]",
        "task: {name: 'keypoints:Keypoints', count: 24}",
        "measure: {quick: true, probes: 5, library: none}", "solve: {check: false}",
        "score: {images: 16, batch_size: 4}", "finetune: {epochs: 1, batch: 8}",
    ]  # fmt: skip
    Path("run.yaml").write_text("\n".join(lines))
    assert main(["run", "run.yaml"]) == 0
    found = json.loads(Path("RUN/metrics.json").read_text())
    assert found["metric"]["unit"] == "pixels" and found["pruned"]["distance"] > 0
