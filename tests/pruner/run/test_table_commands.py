"""``msprune tables``: what it says, what it writes, what it refuses."""

from __future__ import annotations

import pytest

import latency_tables
from latency_tables import LatencyTable, Library
from pruner.run.cli import main
from tests.latency_tables.fakes import FakeEngine, FakeSource, other_device, stairs


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two tables of one device, the second half as fast, and one of another device."""
    folder = tmp_path_factory.mktemp("tables")
    made = {
        "a": (FakeSource(), FakeEngine()),
        "b": (FakeSource(widest=64), FakeEngine(latency=lambda s: 2 * stairs(s))),
        "c": (FakeSource(), FakeEngine(device=other_device())),
    }
    for name, (source, engine) in made.items():
        table = latency_tables.measure(source, engine, probes=20, path=folder / name)
        if name == "a":
            Library(folder / "library").add(table)
    return folder


def test_tables_are_listed_and_shown(measured, capsys):
    assert main(["tables", "list", "--library", str(measured / "library")]) == 0
    out = capsys.readouterr().out
    assert "Fake CPU" in out and "20 structures of 1 networks, 2 kinds of layers" in out
    assert main(["tables", "show", str(measured / "a")]) == 0
    out = capsys.readouterr().out
    assert "in_channels 8-96, out_channels 8-96" in out and "40 samples" in out
    assert main(["tables", "list"]) == 0
    assert "no tables in" in capsys.readouterr().out


def test_tables_are_merged_and_those_of_two_devices_are_not(measured, capsys):
    a, b, c, out = (str(measured / name) for name in ("a", "b", "c", "merged"))
    assert main(["tables", "merge", a, b, "--out", out]) == 0
    both = LatencyTable.load(out)
    assert len(both.readings) == 40 and len({r.network for r in both.readings}) == 2
    assert main(["tables", "merge", a, c, "--out", out]) == 2
    error = capsys.readouterr().err
    assert c in error and "Another CPU" in error
    assert LatencyTable.load(out).readings == both.readings
    assert main(["tables", "merge", a, "--out", out]) == 2
    assert main(["tables", "merge", a, b]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_difference_is_told_by_kind_of_layer(measured, capsys):
    assert main(["tables", "diff", str(measured / "a"), str(measured / "b")]) == 0
    out = capsys.readouterr().out
    ratios = [float(line.split("x")[0]) for line in out.splitlines() if "x  conv2d" in line]
    assert len(ratios) == 2 and all(1.5 < ratio < 2.2 for ratio in ratios)
