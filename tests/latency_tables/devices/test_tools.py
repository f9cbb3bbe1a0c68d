"""Bundles for vendors' tools: driven by a POSIX script, and read as what the runner brings."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import latency_tables
from latency_tables import (
    TOOLS,
    BundledEngine,
    CarriedEngine,
    CollectedEngine,
    DamagedBundleError,
    EngineError,
    LatencyTable,
    Probe,
    Setting,
    UnfinishedError,
    open_carrier,
)

from .chain import ChainSource, expected_ms
from .places import install_adb
from .stand_in_tools import make_tool

PROBES = 5


@dataclass
class LiteSource(ChainSource):
    """The chain with a module that ``fake_litert`` converts."""

    def probe(self, sizes, dropped=()) -> Probe:
        own = super().probe(sizes, dropped)
        return replace(own, module=own.onnx)


@pytest.fixture
def fake_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(module, inputs):
        return SimpleNamespace(export=lambda file: Path(file).write_bytes(module()))

    monkeypatch.setitem(sys.modules, "litert_torch", SimpleNamespace(convert=convert))


def write(folder: Path, tool: str, source: ChainSource, with_weights: bool = False) -> None:
    engine = BundledEngine(folder, Setting(tool, 1, "fp32"), with_weights)
    latency_tables.write_probe_bundle(source, engine, probes=PROBES, quick=True)


def run(
    folder: Path, tool: Path | str, *arguments: str, ok: bool = True
) -> subprocess.CompletedProcess:
    """Run a bundle as a user does on the device."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "TOOL": str(tool),
                   "PYTHON": sys.executable}  # fmt: skip
    done = subprocess.run(
        ["sh", str(folder / "run.sh"), *arguments], env=environment, capture_output=True,
        text=True, check=False, cwd="/",
    )  # fmt: skip
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


def collect(folder: Path, tool: str, source: ChainSource) -> LatencyTable:
    engine = CollectedEngine(folder, Setting(tool, 1, "fp32"))
    return latency_tables.measure(source, engine, probes=PROBES, quick=True)


def check_table(table: LatencyTable, source: ChainSource) -> None:
    assert len(table.readings) == PROBES
    for reading in table.readings:
        assert reading.latency_ms == pytest.approx(expected_ms(source, reading.sizes), rel=0.02)
        assert reading.reference_ms == pytest.approx(expected_ms(source, {}), rel=0.02)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for trtexec that was run; its tool lies beside it."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder / "bundle", "trtexec", ChainSource())
    tool = make_tool(folder / "bin", "trtexec")
    before = set(folder.iterdir())
    said = run(folder / "bundle", tool).stdout
    assert f"{PROBES} of {PROBES} done" in said
    assert set(folder.iterdir()) == before
    kept = {path.name for path in (folder / "bundle").iterdir()}
    assert kept >= {"results", "run.sh", "runner.py"} and "work" not in kept
    return folder


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "done")
    return tmp_path / "done" / "bundle"


def tool_of(bundle: Path) -> Path:
    return bundle.parents[0] / "bin" / "trtexec"


def test_trtexec_brings_readings_as_any_engine(done: Path) -> None:
    source = ChainSource()
    table = collect(done, "trtexec", source)
    check_table(table, source)
    for reading in table.readings:
        assert reading.runs == 24  # both rounds, every run of them
        assert [c.cell for c in reading.cells] == [c.name for c in source.cells()]
        assert all(c.kernels == 1 and c.kernel_ms > 0 for c in reading.cells)
    assert (table.device.engine, table.device.engine_version) == ("trtexec", "TensorRT v8601")
    # The tool's own files came back, whole.
    archive = next((done / "results").glob("*.tar.gz"))
    with tarfile.open(archive) as files:
        names = {name.removeprefix("./") for name in files.getnames()}
    assert {"time-0-0.times", "time-1-1.out", "profile.layers", "profile.information"} <= names


def test_an_engine_of_the_reference_is_built_once(finished: Path) -> None:
    lines = (finished / "bin" / "log").read_text().splitlines()
    built = [line for line in lines if "--onnx=" in line]
    assert len([line for line in built if "/uncut-" in line]) == 1 and len(built) == PROBES + 1


@pytest.mark.parametrize("with_weights", [False, True])
def test_onnxruntime_perf_test(tmp_path: Path, with_weights: bool) -> None:
    source = ChainSource()
    write(tmp_path / "b", "onnxruntime_perf_test", source, with_weights)
    assert (tmp_path / "b" / "runner.py").exists() != with_weights
    run(tmp_path / "b", make_tool(tmp_path / "bin", "onnxruntime_perf_test"))
    table = collect(tmp_path / "b", "onnxruntime_perf_test", source)
    check_table(table, source)
    assert all(c.kernels == 1 for reading in table.readings for c in reading.cells)
    assert table.device.engine_version.startswith("file ")  # it does not tell its version


def test_a_delegate_that_runs_all_as_one_leads_to_a_regression_of_whole_probes(
    tmp_path: Path, fake_litert: None
) -> None:
    source = LiteSource()
    write(tmp_path / "b", "benchmark_model", source)
    tool = make_tool(tmp_path / "bin", "benchmark_model")
    run(tmp_path / "b", f"{tool} --use_gpu=true")
    assert "--use_gpu=true --graph=" in (tool.parent / "log").read_text()
    table = collect(tmp_path / "b", "benchmark_model", source)
    check_table(table, source)
    assert not any(c.kernels for reading in table.readings for c in reading.cells)
    (note,) = [note for note in table.notes if "regression of whole probes" in note]
    assert f"held out: {table.error}" in note
    assert table.device.options == "--use_gpu=true"


def test_litert_files_need_litert_torch_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(latency_tables.UnknownEngineError, match=r"pip install 'msprune\[litert\]'"):
        write(tmp_path / "b", "benchmark_model", LiteSource())
    assert not (tmp_path / "b").exists()


def test_a_killed_script_goes_on_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    source, bundle = ChainSource(), tmp_path / "b"
    write(bundle, "onnxruntime_perf_test", source, with_weights=True)
    tool = make_tool(tmp_path / "bin", "onnxruntime_perf_test", "sleep 0.05\n")
    process = subprocess.Popen(
        ["sh", str(bundle / "run.sh")], stdout=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "TOOL": str(tool)},
    )  # fmt: skip
    results = bundle / "results"
    while len(list(results.glob("*.tar.gz"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = {p: p.read_bytes() for p in results.glob("*.tar.gz")}
    with pytest.raises(UnfinishedError, match=f"{PROBES - len(first)} of {PROBES} measurements"):
        collect(bundle, "onnxruntime_perf_test", source)
    run(bundle, tool)
    assert all(path.read_bytes() == data for path, data in first.items())
    check_table(collect(bundle, "onnxruntime_perf_test", source), source)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "jobs.txt", "runner.py", "model"])
@pytest.mark.parametrize("how", ["edited", "cut", "missing"])
def test_a_bundle_that_was_changed_is_refused_by_name(done: Path, name: str, how: str) -> None:
    path = sorted((done / "models").iterdir())[0] if name == "model" else done / name
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data + b" ")
    if name == "manifest.json" and how == "edited":
        path.write_bytes(data.replace(b'"threads": 1', b'"threads": 2'))
    if name != "manifest.json":  # which the script does not read
        refused = run(done, tool_of(done), ok=False)
        assert refused.returncode == 2 and path.name in refused.stderr
    with pytest.raises(latency_tables.LatencyError):
        collect(done, "trtexec", ChainSource())


def repack(path: Path, edit) -> None:
    """Edit an archive's files, as a person would: its digests stay."""
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    edit(files)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("how", ["edited", "cut"])
def test_a_result_that_was_changed_is_refused_by_name(done: Path, how: str) -> None:
    path = sorted((done / "results").iterdir())[1]
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        repack(path, lambda files: files.update({"./time-0-0.times": b'[{"computeMs": 0.001}]'}))
    with pytest.raises(DamagedBundleError, match=f"{path.name} was edited or cut"):
        collect(done, "trtexec", ChainSource())
    refused = run(done, tool_of(done), ok=False)
    assert refused.returncode == 2 and f"{path.name} was edited or cut" in refused.stderr


def test_a_bundle_is_run_on_one_device(done: Path, tmp_path: Path) -> None:
    gone = sorted((done / "results").iterdir())[0]
    gone.unlink()
    other = make_tool(tmp_path / "other", "trtexec")
    other.write_text(other.read_text().replace("v8601", "v8503"))
    refused = run(done, other, ok=False)
    assert refused.returncode == 2 and "another device" in refused.stderr
    assert "version is 'TensorRT v8601' there, 'TensorRT v8503' here" in refused.stderr
    # Run apart and put together by hand, it is seen when it is collected.
    apart = Path(shutil.copytree(done, tmp_path / "apart"))
    shutil.rmtree(apart / "results")
    run(apart, other)
    shutil.copy(apart / "results" / gone.name, gone)
    with pytest.raises(DamagedBundleError, match="run on two devices"):
        collect(done, "trtexec", ChainSource())


def test_what_solve_asks_for_later_is_a_bundle_below(done: Path) -> None:
    source, sizes = ChainSource(), {"d1": 24, "d2": 40}
    table, setting = collect(done, "trtexec", source), Setting("trtexec", 1, "fp32")

    def check() -> latency_tables.Check:
        return latency_tables.check(
            table, source, CollectedEngine(done, setting), sizes, quick=True
        )

    with pytest.raises(UnfinishedError):
        check()
    (more,) = (done / "more").iterdir()
    run(more, tool_of(done))
    assert check().measured_ms == pytest.approx(expected_ms(source, sizes), rel=0.02)
    probes = {"dense": source.probe({}), "pruned": source.probe(sizes)}
    with pytest.raises(UnfinishedError):
        latency_tables.compare(CollectedEngine(done, setting), probes, 4)
    (more,) = set((done / "more").iterdir()) - {more}
    run(more, tool_of(done))
    timings = latency_tables.compare(CollectedEngine(done, setting), probes, 4)
    assert timings["pruned"].median_ms == pytest.approx(expected_ms(source, sizes), rel=0.02)


def test_what_is_missing_or_refused_over_there_is_said_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "b", "trtexec", ChainSource())
    refused = run(tmp_path / "b", tmp_path / "nothing", ok=False)
    assert refused.returncode == 2
    assert f"there is no {tmp_path / 'nothing'}: name it by TOOL" in refused.stderr
    tool = make_tool(tmp_path / "bin", "trtexec", 'case $* in *--onnx=*) echo "[E] no such op"; '
                     'echo "&&&& FAILED"; exit 1 ;; esac\n')  # fmt: skip
    refused = run(tmp_path / "b", tool, ok=False)
    assert refused.returncode == 2
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("runner: trtexec refuses ") and last.endswith(": [E] no such op")


def test_a_tool_is_carried_like_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, log = install_adb(tmp_path, monkeypatch)
    tool = make_tool(tmp_path / "tools", "trtexec")
    source = ChainSource()
    there = CarriedEngine(
        open_carrier("adb:0123456789"), Setting("trtexec", 1, "fp16"), sys.executable, str(tool)
    )
    before = set(device.iterdir())
    assert there.look()["versions"] == {"trtexec": "TensorRT v8601"}
    assert set(device.iterdir()) == before
    table = latency_tables.measure(source, there, probes=3, quick=True)
    assert len(table.readings) == 3 and table.device.precision == "fp16"
    assert "--fp16" in (tool.parent / "log").read_text()
    assert [path.name for path in device.iterdir()] == ["msprune-device"]
    tool.unlink()
    with pytest.raises(EngineError, match="adb:0123456789: there is no .*trtexec"):
        CarriedEngine(
            open_carrier("adb:0123456789"), Setting("trtexec", 1, "fp16"), tool=str(tool)
        ).look()


@pytest.mark.parametrize(
    ("tool", "threads", "precision", "said"),
    [
        ("trtexec", 2, "fp32", "engine 'trtexec' cannot"),
        ("benchmark_model", 1, "fp16", "runs fp32, not 'fp16'"),
        ("onnxruntime_perf_test", 1, "bf16", "runs fp32, int8, not 'bf16'"),
    ],
)
def test_what_a_tool_cannot_is_refused(
    tmp_path: Path, tool: str, threads: int, precision: str, said: str
) -> None:
    assert tool in TOOLS
    with pytest.raises(EngineError, match=said):
        BundledEngine(tmp_path / "b", Setting(tool, threads, precision))


@pytest.mark.skipif(shutil.which("benchmark_app") is None, reason="there is no benchmark_app")
def test_benchmark_app_for_real(tmp_path: Path) -> None:
    # Each kernel takes more than the microsecond that its counters count in.
    source, folder = ChainSource(widest=1024, least=768, dims=3), tmp_path / "b"
    setting = Setting("benchmark_app", 1, "fp32")
    latency_tables.write_probe_bundle(source, BundledEngine(folder, setting), probes=1, quick=True)
    before = set(tmp_path.iterdir())
    run(folder, "benchmark_app")
    assert set(tmp_path.iterdir()) == before
    table = latency_tables.measure(source, CollectedEngine(folder, setting), probes=1, quick=True)
    assert table.device.engine_version.startswith("openvino 20")
    for reading in table.readings:
        assert reading.latency_ms > 0 and reading.reference_ms > 0
        assert all(cell.kernels for cell in reading.cells)
