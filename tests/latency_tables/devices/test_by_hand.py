"""Bundles carried by hand: complete, resumed, and refused by name where they were changed."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import latency_tables
from latency_tables import (
    BundledEngine,
    CollectedEngine,
    DamagedBundleError,
    LatencyError,
    LatencyTable,
    UnfinishedError,
)

from .chain import ChainSource, expected_ms, stand_in
from .places import SETTING, make_python, run_bundle

PROBES = 7


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_python(tmp_path_factory.mktemp("fast") / "env", stand_in())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "bundle"
    source = ChainSource()
    engine = BundledEngine(folder, SETTING)
    assert latency_tables.write_probe_bundle(source, engine, probes=PROBES) == PROBES
    return folder


@pytest.fixture(scope="module")
def finished(written: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "bundle"
    shutil.copytree(written, folder)
    said = run_bundle(folder, python).stdout
    assert f"{2 * PROBES} of {2 * PROBES} done" in said
    return folder


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "bundle"))


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "done"))


def collect(folder: Path, **more) -> LatencyTable:
    engine = CollectedEngine(folder, SETTING)
    return latency_tables.measure(ChainSource(), engine, probes=PROBES, **more)


def test_what_comes_back_is_readings_as_if_measured_here(done: Path) -> None:
    table, source = collect(done), ChainSource()
    assert len(table.readings) == PROBES
    for reading in table.readings:
        assert reading.latency_ms == pytest.approx(expected_ms(source, reading.sizes), rel=0.02)
        assert reading.reference_ms == pytest.approx(expected_ms(source, {}), rel=0.02)
        assert [c.cell for c in reading.cells] == [c.name for c in source.cells()]
        assert all(c.kernels == 1 and c.kernel_ms > 0 for c in reading.cells)
    assert table.device.engine_version == "1.0" and table.device.precision == "fp32"
    assert len(list((done / "raw").glob("*.profile.gz"))) == 2 * PROBES


def test_a_bundle_is_the_same_from_the_same(written: Path, tmp_path: Path) -> None:
    latency_tables.write_probe_bundle(
        ChainSource(), BundledEngine(tmp_path / "again", SETTING), probes=PROBES
    )
    for path in written.rglob("*"):
        if path.is_file():
            assert (
                path.read_bytes() == (tmp_path / "again" / path.relative_to(written)).read_bytes()
            )


def test_a_bundle_that_is_there_keeps_its_results_and_another_is_refused(done: Path) -> None:
    engine = BundledEngine(done, SETTING)
    latency_tables.write_probe_bundle(ChainSource(), engine, probes=PROBES)
    assert len(collect(done).readings) == PROBES
    with pytest.raises(LatencyError, match=f"{done} holds something else"):
        latency_tables.write_probe_bundle(ChainSource(), engine, probes=3)


def test_nothing_is_written_outside_of_its_folder(bundle: Path, python: Path) -> None:
    before = {p for p in bundle.parent.rglob("*") if bundle not in p.parents}
    run_bundle(bundle, python)
    assert {p for p in bundle.parent.rglob("*") if bundle not in p.parents} == before


def test_what_is_still_to_run_is_said_and_a_killed_runner_goes_on(
    bundle: Path, tmp_path: Path
) -> None:
    slow = make_python(tmp_path / "slow", stand_in(sleep=0.1))
    with pytest.raises(UnfinishedError, match="nothing of .* is measured yet: run .*run.sh"):
        collect(bundle)
    process = subprocess.Popen([slow, bundle / "runner.py"], stdout=subprocess.DEVNULL)
    results = bundle / "results"
    while not results.is_dir() or len(list(results.glob("*.json.gz"))) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (results / "fit-half.json.gz.1.tmp").write_bytes(b"ha")  # as a power cut leaves it
    first = {p: p.read_bytes() for p in results.glob("*.json.gz")}
    count = 2 * PROBES
    with pytest.raises(UnfinishedError, match=f"{count - len(first)} of {count} measurements are"):
        collect(bundle)
    run_bundle(bundle, slow)
    assert all(path.read_bytes() == data for path, data in first.items())
    assert len(collect(bundle).readings) == PROBES


@pytest.mark.parametrize("name", ["manifest.json", "runner.py", "run.sh", "model"])
@pytest.mark.parametrize("how", ["edited", "cut", "missing"])
def test_a_bundle_that_was_changed_is_refused_by_name(
    bundle: Path, python: Path, name: str, how: str
) -> None:
    path = sorted((bundle / "models").iterdir())[0] if name == "model" else bundle / name
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data + b"\n# more")
    if name == "manifest.json" and how == "edited":
        path.write_bytes(data.replace(b'"threads": 1', b'"threads": 2'))
    # A runner that is no whole program says nothing; what it is checked by here still does.
    if name not in ("runner.py", "run.sh"):
        refused = run_bundle(bundle, python, ok=False)
        assert refused.returncode == 2 and str(path.name) in refused.stderr
        assert not (bundle / "results").exists() or not list((bundle / "results").iterdir())
    with pytest.raises(LatencyError, match=path.name if name != "manifest.json" else str(bundle)):
        collect(bundle)


def test_a_result_that_was_edited_is_refused_by_name(done: Path, python: Path) -> None:
    path = sorted((done / "results").glob("*.json.gz"))[2]
    record = json.loads(gzip.decompress(path.read_bytes()))
    record["builds"][0]["laps"]["probe"][0][0] /= 2
    path.write_bytes(gzip.compress(json.dumps(record).encode()))
    with pytest.raises(DamagedBundleError, match=f"{path.name} was edited or cut"):
        collect(done)
    refused = run_bundle(done, python, ok=False)
    assert refused.returncode == 2 and f"{path.name} was edited or cut" in refused.stderr


def test_a_bundle_is_run_on_one_device(done: Path, tmp_path: Path) -> None:
    text = stand_in().replace('__version__ = "1.0"', '__version__ = "2.0"')
    other = make_python(tmp_path / "other", text)
    gone = sorted((done / "results").glob("*.json.gz"))[0]
    kept = gone.read_bytes()
    gone.unlink()
    refused = run_bundle(done, other, ok=False)
    assert refused.returncode == 2
    assert "another device" in refused.stderr
    assert "engine_version is '1.0' there, '2.0' here" in refused.stderr
    # Run apart and put together by hand, it is seen when it is collected.
    apart = Path(shutil.copytree(done, tmp_path / "apart"))
    shutil.rmtree(apart / "results")
    run_bundle(apart, other)
    shutil.copy(apart / "results" / gone.name, gone)
    assert gone.read_bytes() != kept
    with pytest.raises(DamagedBundleError, match="run on two devices"):
        collect(done)


def test_what_is_asked_for_later_is_a_bundle_below(done: Path, python: Path) -> None:
    """As solve does: a structure that is checked, and networks in turn, each carried by hand."""
    table, source = collect(done), ChainSource()
    sizes = {"d1": 24, "d2": 40}

    def check() -> latency_tables.Check:
        return latency_tables.check(table, source, CollectedEngine(done, SETTING), sizes)

    with pytest.raises(UnfinishedError, match="1 of 1 measurements are still to run") as said:
        check()
    (more,) = (done / "more").iterdir()
    assert str(more / "run.sh") in str(said.value)
    run_bundle(more, python)
    assert check().measured_ms == pytest.approx(expected_ms(source, sizes), rel=0.02)
    probes = {"dense": source.probe({}), "pruned": source.probe(sizes)}
    with pytest.raises(UnfinishedError):
        latency_tables.compare(CollectedEngine(done, SETTING), probes, 4)
    (more,) = set((done / "more").iterdir()) - {more}
    run_bundle(more, python)
    timings = latency_tables.compare(CollectedEngine(done, SETTING), probes, 4)
    assert timings["pruned"].median_ms == pytest.approx(expected_ms(source, sizes), rel=0.02)


def test_a_table_of_it_is_continued_and_finished_like_any(bundle: Path, python, tmp_path) -> None:
    run_bundle(bundle, python)
    kept = sorted((bundle / "results").glob("*.json.gz"))[-1]
    data = kept.read_bytes()
    kept.unlink()
    with pytest.raises(UnfinishedError, match="1 of 14 measurements are still to run"):
        collect(bundle, path=tmp_path / "run")
    assert (tmp_path / "run" / "latency.journal").is_file()
    kept.write_bytes(data)
    table = collect(bundle, path=tmp_path / "run")
    assert LatencyTable.load(tmp_path / "run").readings == table.readings
