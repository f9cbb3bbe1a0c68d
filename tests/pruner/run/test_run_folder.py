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
        assert [path.name for path in folder.path.iterdir()] == [".lock"]
    assert folder.path.exists()  # this command did not make it
