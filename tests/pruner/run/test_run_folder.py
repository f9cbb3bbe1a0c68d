"""The RUN folder: locked, taken over whole, and edits found out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pruner.errors import PrunerError
from pruner.run.run_folder import RunFolder

from ..runs import ROOT

HOLD = """
import sys, time
from pruner.run import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(240)
"""


def test_a_second_command_is_kept_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "RUN")
    with folder.lock(), pytest.raises(PrunerError, match="another msprune"), folder.lock():
        pass
    assert not folder.path.exists()


def test_a_killed_commit_is_done_again(tmp_path: Path) -> None:
    """Whatever the moment, the old or the new files are accepted, and no others."""
    folder = RunFolder(tmp_path / "RUN")
    state = {"format": 1, "config": {}, "steps": {}, "files": {}, "budgets": []}
    folder.write_state(state)

    def write(text: str) -> Callable[[Path], None]:
        return lambda scratch: (scratch / "plan.json").write_text(text) and None

    folder.commit("solve", "a", write("old"))
    assert folder.find_record("solve", "a") and not folder.find_record("solve", "b")
    original = folder.write_state
    calls = []

    def dies(state) -> None:
        calls.append(state)
        if len(calls) == 2:  # after the files were moved, before the step counts as done
            raise KeyboardInterrupt
        original(state)

    folder.write_state = dies  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        folder.commit("solve", "b", write("new"))
    del folder.write_state
    assert folder.verify("plan.json").read_text() == "new"
    assert not folder.find_record("solve", "a") and not folder.find_record("solve", "b")
    folder.commit("solve", "b", write("new"))
    (folder / "plan.json").write_text("edited")
    with pytest.raises(PrunerError, match=r"plan\.json is truncated or was edited"):
        folder.find_record("solve", "b")


def test_a_killed_command_leaves_no_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "RUN")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(PrunerError, match="another msprune"), folder.lock():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    (folder / ".new-left").mkdir()
    with folder.lock():
        assert {path.name for path in folder.path.iterdir()} == {".lock", ".edited.lock"}
    assert folder.path.exists()  # this command did not make it


STATE = {"format": 1, "config": {}, "steps": {}, "files": {}, "budgets": []}


@pytest.mark.parametrize(
    "change",
    [
        {"budgets": ["../other"]}, {"budgets": ["/tmp"]}, {"budgets": [".."]}, {"budgets": [7]},
        {"files": {"../../etc/passwd": []}}, {"files": {"a\0b": []}}, {"files": {"plan.json": "x"}},
        {"files": []}, {"steps": []}, {"steps": {"solve": {}}}, {"steps": {"solve": {"key": 1}}},
        {"steps": {"solve": {"key": "a", "files": "plan.json"}}}, {"config": None},
        {"identity": []}, {"identity": {"input": 7}}, {"format": None},
    ],
)  # fmt: skip
def test_what_no_step_writes_is_refused_though_sealed(change, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_state(STATE | change)
    with pytest.raises(PrunerError, match=r"run\.json"):
        folder.read_state()


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, '{"seal": 1}', "\ud800"])
def test_what_is_no_run_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(PrunerError, match=r"run\.json"):
        RunFolder(tmp_path).read_state()


def test_a_step_whose_file_is_gone_is_to_be_done_again(tmp_path: Path) -> None:
    """As the message about a damaged one says: remove it and repeat its step."""
    folder = RunFolder(tmp_path)
    folder.write_state(STATE)
    folder.commit("solve", "a", lambda scratch: (scratch / "plan.json").write_text("x") and None)
    (folder / "plan.json").write_text("y")
    with pytest.raises(PrunerError, match="remove it and repeat its step"):
        folder.find_record("solve", "a")
    (folder / "plan.json").unlink()
    assert folder.find_record("solve", "a") is None


COMMIT = """
import sys
from pruner.run import RunFolder
for number in range(12):
    name = f"{sys.argv[2]} {number}"
    RunFolder(sys.argv[1]).commit(name, "key", lambda scratch: None)
"""


def test_steps_of_two_processes_are_all_recorded(tmp_path: Path) -> None:
    """Two budgets that are tuned at once note the dense network's figures in their common base."""
    folder = RunFolder(tmp_path)
    folder.write_state(STATE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    two = [
        subprocess.Popen([sys.executable, "-c", COMMIT, str(tmp_path), name], env=environment)
        for name in "ab"
    ]
    assert [one.wait() for one in two] == [0, 0]
    assert len(folder.read_state()["steps"]) == 24


def test_what_killed_commands_were_writing_is_cleared_away(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_state(STATE)
    (tmp_path / "checkpoints" / "a").mkdir(parents=True)
    dead, alive = 2**22 + 7, os.getpid()
    left = [f".run.json.{dead}.tmp", f"checkpoints/a/.x.{dead}.tmp", ".latency.json.0a1b2c3d.tmp"]
    kept = f".run.json.{alive}.tmp"
    for name in (*left, kept):
        (tmp_path / name).write_text("half")
    with folder.lock():
        assert not any((tmp_path / name).exists() for name in left)
        assert (tmp_path / kept).exists()


def test_what_was_removed_is_made_again(tmp_path: Path) -> None:
    """And what was edited is refused."""
    folder = RunFolder(tmp_path / "RUN")
    folder.write_state({"format": 1, "config": {}, "steps": {}, "files": {}, "budgets": []})
    folder.commit("step", "key", lambda scratch: (scratch / "a.txt").write_text("a") and None)
    assert folder.find_record("step", "key") is not None
    assert folder.find_record("step", "other") is None
    (folder / "a.txt").unlink()
    assert folder.find_record("step", "key") is None
    (folder / "a.txt").write_text("b")
    with pytest.raises(PrunerError, match="a.txt is truncated or was edited"):
        folder.find_record("step", "key")
