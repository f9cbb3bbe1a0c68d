"""Devices that ssh reaches, by a loopback sshd: measured, cut off, refused; adb by a stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import latency_tables
from latency_tables import CarriedEngine, CarrierError, EngineError, LatencyError, open_carrier

from .chain import ChainSource, expected_ms, stand_in
from .hosts import can_serve, serve
from .places import SETTING, install_adb, make_python

PROBES = 6
ROOT = Path(__file__).parents[3]


class Board:
    """A host, its home, and its Pythons: ``fast``, and one that takes its time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.fast = make_python(home / "fast", stand_in())
        self.slow = make_python(home / "slow", stand_in(sleep=0.1))

    @property
    def root(self) -> Path:
        return self.home / ".cache" / "msprune-device"

    def results(self) -> dict[str, bytes]:
        found = self.root.glob("*/results/*.json.gz")
        return {path.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    if not can_serve():
        pytest.skip("there is no sshd (openssh-server)")
    folder = tmp_path_factory.mktemp("ssh")
    with serve(folder) as homes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        yield Board(homes["board"])


def engine(python: Path) -> CarriedEngine:
    return CarriedEngine(open_carrier("ssh:board"), SETTING, str(python))


def measure(board: Board, path: Path | None = None) -> latency_tables.LatencyTable:
    return latency_tables.measure(ChainSource(), engine(board.fast), probes=PROBES, path=path)


def test_a_device_is_looked_at_without_writing_there(board: Board) -> None:
    before = set(board.home.rglob("*"))
    found = engine(board.fast).look()
    assert found["device"]["engine_version"] == "1.0" and not found["missing"]
    missing = CarriedEngine(
        open_carrier("ssh:board"), latency_tables.Setting("openvino", 1, "fp32"), str(board.fast)
    )
    with pytest.raises(EngineError, match="ssh:board: engine openvino cannot be imported"):
        _ = missing.device
    assert set(board.home.rglob("*")) == before


def test_it_is_measured_checked_and_timed_over_there(board: Board, tmp_path: Path) -> None:
    before = set(board.home.iterdir())
    table, source = measure(board, tmp_path), ChainSource()
    assert len(table.readings) == PROBES
    for reading in table.readings:
        assert reading.latency_ms == pytest.approx(expected_ms(source, reading.sizes), rel=0.02)
    sizes = {"d1": 24, "d2": 40}
    there = engine(board.fast)
    checked = latency_tables.check(table, source, there, sizes)
    assert checked.measured_ms == pytest.approx(expected_ms(source, sizes), rel=0.02)
    probes = {"dense": source.probe({}), "pruned": source.probe(sizes)}
    timings = latency_tables.compare(there, probes, 4)
    assert timings["dense"].median_ms == pytest.approx(expected_ms(source, {}), rel=0.02)
    # One folder over there, with what the campaign left; raw profiler files among it.
    assert {p.name for p in set(board.home.iterdir()) - before} == {".cache"}
    (kept,) = board.root.glob("*/raw")
    assert kept.parent.name.startswith("done-") and len(list(kept.iterdir())) == 2 * PROBES
    assert not list(board.root.glob("*/bundle-*"))


def test_the_python_may_be_named_from_the_home_over_there(board: Board) -> None:
    (board.home / "venv").symlink_to(board.home / "fast")
    there = engine(Path("venv/bin/python"))
    table = latency_tables.measure(ChainSource(), there, probes=3, quick=True)
    assert len(table.readings) == 3


def test_a_campaign_is_finished_where_nothing_of_it_was_run(board: Board) -> None:
    kept = board.root / "done-nothing-12345678"
    kept.mkdir(parents=True)
    engine(board.fast).finish("nothing")  # and what is kept of an earlier one stays
    assert kept.is_dir()
    subprocess.run(["rm", "-rf", str(board.root)], check=True)
    engine(board.fast).finish("nothing")
    assert not board.root.exists()


def start(board: Board, path: Path, probes: int = PROBES) -> subprocess.Popen[str]:
    """Measure in a process of its own, over there by the Python that takes its time."""
    script = (
        "import sys, latency_tables\n"
        "from tests.latency_tables.devices.chain import ChainSource\n"
        "from tests.latency_tables.devices.test_carried import engine\n"
        f"table = latency_tables.measure(ChainSource(), engine({str(board.slow)!r}), "
        f"probes={probes}, path={str(path)!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def wait_for(board: Board, count: int, process: subprocess.Popen[str]) -> None:
    while len(board.results()) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def list_processes() -> Iterator[tuple[int, int, str]]:
    """Numbers of all processes and of their parents, and their command lines."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            stat = (place / "stat").read_text()
        except OSError:
            continue
        yield int(place.name), int(stat.rpartition(")")[2].split()[1]), line


def kill_host(board: Board, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)


def kill_runner(board: Board, process: subprocess.Popen[str]) -> None:
    for pid, _, line in list_processes():
        if line.startswith(f"{board.slow} .cache/"):
            os.kill(pid, signal.SIGKILL)


def cut_connection(board: Board, process: subprocess.Popen[str]) -> None:
    processes = list(list_processes())
    servers = {pid for pid, _, line in processes if f"-f {board.home.parent}/sshd-board" in line}
    for pid, parent, _ in processes:
        if parent in servers:  # an sshd for each connection
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [kill_host, kill_runner, cut_connection])
def test_cut_off_anywhere_the_same_command_completes_it(
    board: Board, tmp_path: Path, end: Callable[[Board, subprocess.Popen[str]], None]
) -> None:
    subprocess.run(["rm", "-rf", str(board.root)], check=True)
    process = start(board, tmp_path)
    wait_for(board, 4, process)
    end(board, process)
    _, said = process.communicate()
    assert process.returncode != 0
    if end is not kill_host:
        assert "ssh:board" in said.splitlines()[-1]
    known = board.results()
    assert 4 <= len(known) < 2 * PROBES
    journal = (tmp_path / "latency.journal").read_text().splitlines()[1:]
    # Over there the job that was being measured may still end, and is then taken over too.
    process = start(board, tmp_path)
    _, said = process.communicate()
    assert process.returncode == 0, said
    table = latency_tables.LatencyTable.load(tmp_path)
    assert len(table.readings) == PROBES
    after = {p.name: p.read_bytes() for p in board.root.glob("done-*/results/*.json.gz")}
    assert len(after) == 2 * PROBES
    assert all(after[name] == data for name, data in known.items())  # not measured twice
    first = [json.loads(line)["measured_at"] for line in journal]
    assert set(first[:PROBES]) <= {reading.measured_at for reading in table.readings}


def test_a_host_that_cannot_be_reached_is_named(board: Board) -> None:
    there = CarriedEngine(open_carrier("ssh:nowhere.invalid"), SETTING)
    with pytest.raises(CarrierError, match="connection to ssh:nowhere.invalid failed"):
        _ = there.device


def test_a_host_key_that_changed_is_refused_as_ssh_does(board: Board) -> None:
    known = board.home.parent / "known_hosts"
    text = known.read_text()
    other = (board.home.parent / "user_key.pub").read_text().split()[1]
    try:
        known.write_text(" ".join([*text.split()[:2], other]) + "\n")
        with pytest.raises(CarrierError, match="connection to ssh:board failed"):
            _ = engine(board.fast).device
    finally:
        known.write_text(text)


@pytest.mark.parametrize("name", ["ssh:", "ssh:-oProxyCommand=x", "ssh:a b", "usb:1", "board"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(LatencyError, match="is no device"):
        open_carrier(name)


def test_another_device_never_mixes_into_a_table(board: Board, tmp_path: Path) -> None:
    measure(board, tmp_path)
    other = make_python(board.home / "other", stand_in().replace('"1.0"', '"9.9"'))
    with pytest.raises(latency_tables.DeviceMismatchError, match="engine_version is '1.0'"):
        latency_tables.measure(ChainSource(), engine(other), probes=PROBES, path=tmp_path)


def test_adb_carries_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, log = install_adb(tmp_path, monkeypatch)
    python = make_python(tmp_path / "fast", stand_in())
    there = CarriedEngine(open_carrier("adb:0123456789"), SETTING, str(python))
    table = latency_tables.measure(ChainSource(), there, probes=3, quick=True)
    assert len(table.readings) == 3
    said = log.read_text()
    assert all(line.startswith("-s 0123456789 ") for line in said.splitlines())
    assert " push " in said and "--attached --stream" in said
    assert [path.name for path in device.iterdir()] == ["msprune-device"]
    with pytest.raises(CarrierError, match="adb:77: adb: device '77' not found"):
        _ = CarriedEngine(open_carrier("adb:77"), SETTING).device
