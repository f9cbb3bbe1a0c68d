"""A fleet of three loopback hosts: they share the probes, and go on when one dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import latency_tables
from latency_tables import CarriedEngine, FleetEngine, open_carrier

from .chain import ChainSource, expected_ms, stand_in
from .hosts import HOSTS, can_serve, serve
from .places import SETTING, make_python
from .test_carried import list_processes


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    if not can_serve():
        pytest.skip("there is no sshd (openssh-server)")
    with serve(tmp_path / "ssh", len(HOSTS)) as found:
        monkeypatch.setenv("PATH", f"{tmp_path / 'ssh' / 'bin'}:{os.environ['PATH']}")
        yield found


def make_fleet(homes: dict[str, Path], sleep: float) -> FleetEngine:
    """Make the fleet; on every host the stand-in sleeps for so many seconds at each build."""
    members = []
    for host, home in homes.items():
        python = make_python(home / "env", stand_in(sleep=sleep))
        members.append(CarriedEngine(open_carrier(f"ssh:{host}"), SETTING, str(python)))
    return FleetEngine("fleet.yaml", members)


def count_results(home: Path) -> int:
    return len(list((home / ".cache" / "msprune-device").glob("*/results/*.json.gz")))


def test_three_hosts_share_the_probes(homes: dict[str, Path]) -> None:
    """The stand-in sleeps, so that none is done before the others have begun."""
    sleep, probes = 1.0, 6
    fleet, source = make_fleet(homes, sleep), ChainSource()
    table = latency_tables.measure(source, fleet, probes=probes, quick=True)
    assert len(table.readings) == probes and not fleet.left_out
    assert [count_results(home) for home in homes.values()] == [2, 2, 2]
    # A job builds the reference, the probe, and the probe with its profiler.
    assert all(reading.seconds >= 3 * sleep for reading in table.readings)


def test_the_death_of_a_host_is_survived(homes: dict[str, Path]) -> None:
    fleet, source = make_fleet(homes, 0.1), ChainSource()
    gone = homes["board2"]

    def kill() -> None:
        while not count_results(gone):
            time.sleep(0.02)
        processes = list(list_processes())
        servers = {pid for pid, _, line in processes if f"-f {gone.parent}/sshd-board2" in line}
        for pid, parent, _ in processes:
            if pid in servers or parent in servers:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    table = latency_tables.measure(source, fleet, probes=9, quick=True)
    killer.join()
    assert len(table.readings) == 9
    for reading in table.readings:
        assert reading.latency_ms == pytest.approx(expected_ms(source, reading.sizes), rel=0.02)
    assert list(fleet.left_out) == ["ssh:board2"]
    assert "connection to ssh:board2 failed" in fleet.left_out["ssh:board2"]
