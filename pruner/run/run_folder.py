"""The RUN folder: what it holds, how a file gets there whole, how an edited one is found out."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import PrunerError
from ..utils import digest_file, digest_json, parse_json, write_text

FORMAT = 1
STATE = "run.json"
LATENCY = "latency.parquet"
IMPORTANCE = "importance.safetensors"
ROTATION = "rotation.safetensors"
PLAN = "plan.json"
METRICS = "metrics.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"

_LOCK, _EDITED = ".lock", ".edited.lock"
_SCRATCH = ".new-"


class RunFolder:
    """One RUN. run.json lists what each finished step was made from and the digest of its files.

    A step that is killed leaves no trace in run.json: the same command does it again, or continues
    from what the step itself keeps (measured samples, fine-tuning checkpoints).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise PrunerError(f"{self.path} is a file, not a folder for a run")

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self / STATE).is_file()

    def read_state(self) -> dict[str, Any]:
        """Return the content of run.json; PrunerError where there is none or it was damaged."""
        path = self / STATE
        if not path.is_file():
            raise PrunerError(
                f"{self.path} holds no run: begin one with msprune measure MODEL --out {self.path}"
            )
        try:
            state = parse_json(path.read_bytes())
            seal = state.pop("seal")
            whole = seal == digest_json(state)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise PrunerError(f"{path} is truncated or no run.json; begin a new RUN") from None
        if not whole:
            raise PrunerError(f"{path} was edited by hand; begin a new RUN")
        if state.get("format") != FORMAT:
            raise PrunerError(
                f"{path} has format {state.get('format')}, this version reads {FORMAT}"
            )
        if (wrong := _find_wrong_entry(state)) is not None:
            raise PrunerError(f"{path}: its entry {wrong} is none that msprune writes")
        return state

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace run.json, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self / STATE, json.dumps({**state, "seal": digest_json(state)}, indent=1) + "\n")

    def find_record(self, step: str, key: str) -> dict[str, Any] | None:
        """Return the record of a step that was finished with the same key, its files there.

        None otherwise: what was removed is made again by the step that made it.

        Raises:
            PrunerError: One of its files was damaged since.
        """
        record = self.read_state()["steps"].get(step) if self.exists else None
        if record is None or record["key"] != key:
            return None
        if not all((self / name).is_file() for name in record["files"]):
            return None
        for name in record["files"]:
            self.verify(name)
        return record

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file that a step wrote."""
        return json.loads(self.verify(name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def verify(self, name: str) -> Path:
        """Return the path of a file that is as a step wrote it; PrunerError otherwise."""
        path = self / name
        known = self.read_state()["files"].get(name)
        if known is None or not path.is_file():
            raise PrunerError(f"{self.path} holds no {name}: repeat the step that writes it")
        if digest_file(path) not in known:
            raise PrunerError(f"{path} is truncated or was edited; remove it and repeat its step")
        return path

    @contextmanager
    def edit_state(self) -> Iterator[dict[str, Any]]:
        """Yield run.json's content, and write it back as it is then; other processes wait.

        Steps of several budgets of a RUN may end at the same time, and share its base.
        """
        with FileLock(self / _EDITED):
            state = self.read_state()
            yield state
            self.write_state(state)

    def commit(
        self,
        step: str,
        key: str,
        write: Callable[[Path], None],
        details: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        forget: tuple[str, ...] = (),
    ) -> None:
        """Take over every file that ``write(folder)`` writes, and record the step.

        The files are written into a scratch folder and moved into place one by one; run.json admits
        the old and the new content of each from just before until just after. The record holds the
        cache key and the details; run.json shows this configuration from now on (None: as before).
        Steps to forget were built on this one's former result: they count as not done.
        """
        with self.edit_state() as state, self._make_scratch() as scratch:
            write(scratch)
            written = {path.name: digest_file(path) for path in sorted(scratch.iterdir())}
            for name in (step, *forget):
                state["steps"].pop(name, None)
            if config is not None:
                state["config"] = dict(config)
            for name, digest in written.items():
                state["files"][name] = [*state["files"].get(name, []), digest]
            self.write_state(state)
            for name in written:
                os.replace(scratch / name, self / name)
            state["files"].update({name: [digest] for name, digest in written.items()})
            state["steps"][step] = {"key": key, "files": sorted(written), **(details or {})}

    @contextmanager
    def _make_scratch(self) -> Iterator[Path]:
        scratch = Path(tempfile.mkdtemp(dir=self.path, prefix=_SCRATCH))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second command out of this RUN, and clear away what a killed one left."""
        created = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise PrunerError(f"another msprune is at work in {self.path}") from None
        try:
            self._clear_away()
            yield
        finally:
            lock.release()
            if created and {path.name for path in self.path.iterdir()} <= {_LOCK, _EDITED}:
                shutil.rmtree(self.path, ignore_errors=True)

    def _clear_away(self) -> None:
        """Remove what killed commands were writing, and nothing of a process that is running."""
        left = [*self.path.glob(".*.tmp"), *(self / CHECKPOINTS).rglob(".*.tmp")]
        for path in left:
            writer = path.name.split(".")[-2]
            if not (writer.isdigit() and _is_running(int(writer))):
                path.unlink(missing_ok=True)
        if folders := list(self.path.glob(f"{_SCRATCH}*")):
            with FileLock(self / _EDITED):  # steps of its budgets end here, too
                for path in folders:
                    shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OverflowError:
        return False
    except OSError as error:
        return isinstance(error, PermissionError)  # of another user
    return True


def _find_wrong_entry(state: Mapping[str, Any]) -> str | None:
    """Return what of a sealed run.json no step writes: the seal says nothing of who made it.

    Names of files and of budgets' folders must be names, not paths that lead out of the RUN.
    """
    kinds = {"config": dict, "steps": dict, "files": dict, "budgets": list}
    for name, kind in kinds.items():
        if not isinstance(state.get(name), kind):
            return name
    identity = state.get("identity", {})
    if not isinstance(identity, dict) or not isinstance(identity.get("input", []), list):
        return "identity"
    for name in (*state["files"], *state["budgets"]):
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            return repr(name)
    for name, record in state["steps"].items():
        known = isinstance(record, dict) and isinstance(record.get("key"), str)
        if not known or not isinstance(record.get("files"), list):
            return f"steps.{name}"
    wrong = [name for name, known in state["files"].items() if not isinstance(known, list)]
    return f"files.{wrong[0]}" if wrong else None
