"""What a device says of itself: the board, what holds its clocks, and whether it is too hot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from latency_tables import Device, DeviceMismatchError
from latency_tables.devices.runner import device_facts
from latency_tables.devices.runner.device_facts import (
    describe_cpu,
    describe_gpu_power,
    describe_power,
    is_throttled,
    read_temperature,
    same_device,
)

SETTING = {"engine": "onnxruntime", "threads": 1, "precision": "fp32", "batch": 1}


class Board:
    """A device's files and programs, laid over those of the machine that the test runs on."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.programs: dict[str, str] = {}

    def read_text(self, path: str) -> str:
        return self.files.get(path, "")

    def glob(self, pattern: str) -> list[str]:
        known = {str(p) for path in self.files for p in (Path(path), *Path(path).parents)}
        return [path for path in known if Path(path).match(pattern)]

    def run_quietly(self, command: list[str]) -> str:
        return self.programs.get(" ".join(command), "")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    own = Board()
    monkeypatch.setattr(device_facts, "read_text", own.read_text)
    monkeypatch.setattr(device_facts, "run_quietly", own.run_quietly)
    monkeypatch.setattr(device_facts.glob, "glob", own.glob)
    own.files["/proc/cpuinfo"] = "model name : Cortex-A76\nFeatures : asimd asimddp\n"
    return own


def set_governors(board: Board, *governors: str) -> None:
    for index, name in enumerate(governors):
        policy = f"/sys/devices/system/cpu/cpufreq/policy{index}"
        board.files[f"{policy}/scaling_governor"] = name
        board.files[f"{policy}/scaling_max_freq"] = str(1000000 * (index + 1))


def test_governor_clocks_and_power_mode(board: Board) -> None:
    assert describe_power() == ""
    set_governors(board, "schedutil", "performance")
    board.programs["nvpmodel -q"] = "NV Power Mode: MAXN\n0"
    assert describe_power() == (
        "governor performance/schedutil, at most 1000/2000 MHz, power mode MAXN"
    )


def test_the_clocks_of_a_graphics_processor(board: Board) -> None:
    assert describe_gpu_power() == ""
    board.files["/sys/class/devfreq/17000000.ga10b/max_freq"] = "1300500000"
    board.files["/sys/class/devfreq/17000000.ga10b/governor"] = "nvhost_podgov"
    board.files["/sys/class/devfreq/13e40000.host1x/max_freq"] = "1"
    query = "nvidia-smi --query-gpu=power.limit,clocks.max.sm --format=csv,noheader"
    board.programs[query] = "[N/A], [N/A]"
    assert describe_gpu_power() == "GPU nvhost_podgov at most 1300 MHz"
    board.programs[query] = "300.00 W, 1980 MHz"
    assert describe_gpu_power().endswith(", GPU 300.00 W, 1980 MHz")


@pytest.mark.parametrize(
    ("degrees", "flags", "reasons", "expected"),
    [
        (45, "0x0", "0x0000000000000001", False),  # idle
        (80, "", "", True),
        (None, "0x50000", "", False),  # it was, and is no more
        (None, "0x4", "", True),
        (None, "", "0x0000000000000020", True),
        (None, "", "[N/A]", False),
    ],
)
def test_heat_and_flags_of_throttling(
    board: Board, degrees: int | None, flags: str, reasons: str, expected: bool
) -> None:
    if degrees is not None:
        board.files["/sys/class/thermal/thermal_zone0/temp"] = "30000"
        board.files["/sys/class/thermal/thermal_zone1/temp"] = f"{degrees}000"
        board.files["/sys/class/thermal/thermal_zone2/temp"] = "-274000"  # a broken sensor
    board.programs["vcgencmd get_throttled"] = f"throttled={flags}" if flags else ""
    board.programs[
        "nvidia-smi --query-gpu=clocks_throttle_reasons.active --format=csv,noheader"
    ] = reasons
    assert read_temperature() == degrees
    assert is_throttled() is expected


@pytest.mark.parametrize("changed", ["governor", "board", "power mode"])
def test_devices_that_differ_in_what_holds_their_clocks_never_mix(
    board: Board, changed: str
) -> None:
    def describe() -> dict:
        return describe_cpu("onnxruntime", "1.0", SETTING)

    set_governors(board, "performance")
    board.files["/proc/device-tree/model"] = "Raspberry Pi 5"
    before = describe()
    board.files["/proc/cpuinfo"] += "cpu MHz : 1400.0\n"
    assert not same_device(before, describe())  # the clock of the moment is no device
    if changed == "governor":
        set_governors(board, "powersave")
    elif changed == "board":
        board.files["/proc/device-tree/model"] = "Raspberry Pi 4"
    else:
        board.programs["nvpmodel -q"] = "NV Power Mode: 15W"
    after = describe()
    name = "board" if changed == "board" else "power"
    assert same_device(before, after) == [name]
    one, other = Device.from_json(before), Device.from_json(after)
    with pytest.raises(DeviceMismatchError, match=f"{name} is "):
        other.check_same(one, "the table")
    assert one.identity != other.identity
    other.check_same(replace(one, **{name: getattr(other, name)}), "the table")
