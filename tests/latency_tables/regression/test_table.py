"""Tables on disk and what they say when asked for what they do not hold."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

import latency_tables
from latency_tables import (
    DamagedTableError,
    DeviceMismatchError,
    LatencyError,
    LatencyTable,
    LayerSpec,
    MissingSpecError,
)

from ..fakes import FakeEngine, FakeSource, other_device, spec


@pytest.fixture(scope="module")
def table():
    return latency_tables.measure(FakeSource(), FakeEngine(), probes=20)


def test_a_saved_table_comes_back(table, tmp_path):
    table.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latency.json", "latency.parquet"]
    back = LatencyTable.load(tmp_path, table.device)
    assert back.readings == table.readings and back.error == table.error
    assert back.overhead_ms == table.overhead_ms
    sizes = np.array([[8, 16], [40, 96]])
    assert np.array_equal(back.predict(spec(), sizes), table.predict(spec(), sizes))
    assert LatencyTable.load(tmp_path / "latency.parquet").readings == table.readings


@pytest.mark.parametrize("name", ["latency.parquet", "latency.json"])
@pytest.mark.parametrize("damage", ["cut", "edited", "gone"])
def test_a_damaged_file_is_refused_by_name(table, tmp_path, name, damage):
    table.save(tmp_path)
    file = tmp_path / name
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        # In the header, a digit of a latency: still valid JSON.
        edited = (
            data.replace(b'"runs": 1', b'"runs": 2', 1)
            if name.endswith("json")
            else (data[:50] + bytes([data[50] ^ 1]) + data[51:])
        )
        file.write_bytes(data[: len(data) // 2] if damage == "cut" else edited)
    with pytest.raises(DamagedTableError, match=name):
        LatencyTable.load(tmp_path)


def test_another_version_is_refused(table, tmp_path):
    table.save(tmp_path)
    header = json.loads((tmp_path / "latency.json").read_text())
    (tmp_path / "latency.json").write_text(json.dumps(header | {"schema": 99}))
    with pytest.raises(DamagedTableError, match="schema 99"):
        LatencyTable.load(tmp_path)


def test_another_device_is_refused(table, tmp_path):
    table.save(tmp_path)
    with pytest.raises(DeviceMismatchError, match="Another CPU"):
        LatencyTable.load(tmp_path, other_device())


def test_a_missing_specification_names_itself_the_nearest_and_the_command(table):
    wanted = LayerSpec("conv2d", ("in_channels", "out_channels"), (("map", 7),))
    with pytest.raises(MissingSpecError) as caught:
        table.predict(wanted, [[8, 8]])
    message = str(caught.value)
    assert str(wanted) in message and str(spec(0)) in message and "msprune measure" in message
    assert isinstance(caught.value, LatencyError)


@pytest.mark.parametrize("sizes", [[8, 8], [[8]], [[8, 0]], [[[8, 8]]]])
def test_sizes_that_make_no_sense_are_refused(table, sizes):
    with pytest.raises(LatencyError, match="sizes"):
        table.predict(spec(), sizes)


def test_predictions_are_never_negative_nor_wild(table):
    grid = np.array([[a, b] for a in (1, 3, 8, 500, 1000) for b in (1, 7, 64, 1000)])
    predicted = table.predict(spec(), grid)
    assert (predicted > 0).all()
    # Ten times the widths measured: a hundredfold, by the widths.
    assert predicted.max() < 300 * table.predict(spec(), [[96, 96]])[0]


def test_a_layer_that_is_read_in_part_is_a_factor_of_itself():
    """From probes without a block, in which the engine computes a third of what it does else."""

    class Source(FakeSource):
        def cells(self):
            first, *rest = super().cells()
            part = first.spec.with_read_stride(2)
            return (replace(first, without=("c2",), otherwise=part), *rest)

    class Engine(FakeEngine):
        def build(self, probe):
            session = super().build(probe)
            kernels = session._kernels
            if "c2" not in probe.sizes:
                session.__dict__["_kernels"] = [kernels[0] / 3, *kernels[1:]]
            return session

    source = Source(blocks=("c2",))
    table = latency_tables.measure(source, Engine(), probes=40)
    part = source.cells()[0].otherwise
    assert part in table.specs and table.knows(part)
    widths = [[16, 32], [48, 64], [80, 96]]
    third = table.predict(part, widths) / table.predict(part.plain, widths)
    assert third == pytest.approx(1 / 3, rel=0.25)  # launches cost the same
    assert table.error.p95 < 0.03
    other = source.cells()[2].spec.with_read_stride(2)  # never seen: as the layer itself
    assert np.array_equal(table.predict(other, widths), table.predict(other.plain, widths))


def test_adding_a_structure_again_replaces_it(table):
    assert len(table.add([table.readings[3]]).readings) == len(table.readings)


def reseal(folder, **changes):
    """Write a header with other content and the seal that it would have."""
    header = json.loads((folder / "latency.json").read_text()) | changes
    header = {k: v for k, v in header.items() if k != "header_sha256" and v != "gone"}
    text = json.dumps(header, sort_keys=True)
    header["header_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "latency.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    "changes",
    [
        {"probes": []}, {"probes": "gone"}, {"probes": [{}] * 20}, {"device": {}}, {"device": 7},
        {"error": {"median": 1}}, {"easing": "much"}, {"contexts": {"a": {}}}, {"notes": 7},
        {"provenance": 7}, {"parquet_sha256": "gone"}, {"contexts": []},
    ],
)  # fmt: skip
def test_a_sealed_header_of_other_content_is_refused_by_name(table, tmp_path, changes):
    table.save(tmp_path)
    reseal(tmp_path, **changes)
    with pytest.raises(DamagedTableError, match="latency"):
        LatencyTable.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None])
@pytest.mark.parametrize("name", ["latency_ms", "sentinel_ms", "interval_ms"])
def test_a_time_that_is_none_is_refused(table, tmp_path, name, value):
    table.save(tmp_path)
    probes = json.loads((tmp_path / "latency.json").read_text())["probes"]
    reseal(tmp_path, probes=[probes[0] | {name: value}, *probes[1:]])
    with pytest.raises(DamagedTableError, match=r"latency\.json"):
        LatencyTable.load(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"\xff", b"[" * 100_000, b'{"a": 1}'])
def test_a_damaged_half_of_a_save_is_cleared_away(table, tmp_path, text):
    table.save(tmp_path)
    (tmp_path / ".latency.json.next").write_bytes(text)
    (tmp_path / ".latency.parquet.next").write_bytes(b"half")
    assert LatencyTable.load(tmp_path).readings == table.readings
    assert not list(tmp_path.glob("*.next"))


def test_a_table_that_would_fill_the_memory_is_refused(table, tmp_path, monkeypatch):
    table.save(tmp_path)
    monkeypatch.setattr("latency_tables.regression.storage.MOST_ROWS", 3)
    with pytest.raises(DamagedTableError, match="more than a table can have"):
        LatencyTable.load(tmp_path)


def test_a_save_that_finds_no_room_leaves_the_old_table(table, tmp_path, monkeypatch):
    table.save(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("latency_tables.regression.storage.write_bytes", fail)
    with pytest.raises(OSError):
        replace(table, notes=("new",)).save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latency.json", "latency.parquet"]
    assert LatencyTable.load(tmp_path).notes == table.notes
