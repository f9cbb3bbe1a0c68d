"""The comparison of methods: configurations that are valid, equal steps, and its table."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks.methods import BATCH, TAIL, list_methods, list_rows, report
from pruner.run.config import Config


@pytest.mark.parametrize(("images", "epochs"), [(7680, 8), (2560, 6)])
def test_every_method_trains_for_the_same_number_of_steps(images: int, epochs: int) -> None:
    options = Namespace(images=images, epochs=epochs, seeds=[0], shares=[50], methods=[""])
    steps = images // BATCH
    rows = list(list_rows(options))
    assert {row["method"] for row, _ in rows} == set(list_methods(epochs, steps))
    for row, changes in rows:
        config = Config.from_dict({"model": "demo:resnet20"}).with_changes(changes)
        solve, way = config.solve, 0
        if solve.strategy == "progressive":
            way = solve.progressive_steps
            assert solve.progressive_picks <= way
        elif solve.strategy == "explore":
            way = solve.explore_rounds * sum(solve.explore_steps)
        elif config.rounds.count > 1:
            way = (config.rounds.count - 1) * config.rounds.epochs * steps
        total = way + config.finetune.epochs * steps
        assert epochs * steps - 12 < total <= epochs * steps, row["method"]
        assert config.finetune.epochs in (TAIL, epochs)


def test_the_table_has_a_line_a_method() -> None:
    figures = {"as_cut": 0.5, "dense_accuracy": 0.9, "latency_share": 0.5, "minutes": 1.0,
               "device": "here", "images": 10, "epochs": 8, "share": 50}  # fmt: skip
    rows = [
        {**figures, "method": name, "seed": seed, "accuracy": 0.7 + 0.1 * seed}
        for name in ("one", "two")
        for seed in range(2)
    ]
    text = report(rows)
    assert "| one | 2 | 75.0% | 70.0% - 80.0% | 50.0% | 50% | 1.0 |" in text
    assert text.count("\n| ") == 3 and "Dense: 90.0%" in text
