"""This machine's state, and results that would unpack to more than any result holds."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest

from latency_tables import DamagedBundleError, inspect_gpu, inspect_machine, list_engines
from latency_tables.devices import machine as module
from latency_tables.devices import result


def test_it_is_what_the_system_says():
    state = inspect_machine()
    assert state.cores == len(os.sched_getaffinity(0)) and state.all_cores == os.cpu_count()
    assert 0 < state.free_bytes <= state.memory_bytes
    assert state.processor and state.system.startswith("Linux")
    assert bool(inspect_gpu().name) != bool(inspect_gpu().missing)


@pytest.mark.parametrize(
    "text, expected", [("max 100000", None), ("150000 100000", 1.5), ("", None), ("1 0", None)]
)
def test_a_containers_share_is_read(text, expected, monkeypatch):
    monkeypatch.setattr(module.facts, "read_text", lambda path: text)
    monkeypatch.setattr(module.Path, "is_dir", lambda path: False)
    assert module._read_quota() == expected


def test_an_engine_that_fails_in_any_way_is_one_that_is_missing(monkeypatch):
    from latency_tables.engines import availability

    def fail(name):
        raise OSError(f"{name}.so: wrong ELF class")

    monkeypatch.setattr(availability, "engine", fail)
    assert all(one.missing and not one.version for one in list_engines())


@pytest.mark.parametrize(
    "data",
    [b"", b"\x1f\x8b", gzip.compress(b"[" * 100_000), gzip.compress(b"null"),
     gzip.compress(b"{}")[:-4], gzip.compress(b"x" * 999)[:12] + b"\xff" * 40],
    ids=("empty", "a start", "deep", "null", "cut", "damaged"),  # gzip writes the time
)  # fmt: skip
def test_what_is_no_result_is_refused(data):
    with pytest.raises(DamagedBundleError, match="board"):
        result.decode_result(data, "board")


def test_a_result_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(result, "MOST_BYTES", 1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join([packer.compress(b" " * (1 << 20)) for _ in range(8)]) + packer.flush()
    with pytest.raises(DamagedBundleError, match="holds more than"):
        result.decode_result(data, "board")
