"""Commands in processes of their own, forked from one that has imported all they need."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 600.0
CRASHED = 99
Setup = Callable[[], Any]
"""Called in the new process before its work."""


@dataclass(frozen=True)
class Said:
    """What a process left: its exit code (negative: the signal), both outputs, its peak memory."""

    code: int
    out: str
    err: str
    peak_bytes: int = 0

    @property
    def crashed(self) -> bool:
        """Whether it ended otherwise than msprune ends: by an exception, a signal, or never."""
        return self.code not in (0, 1, 2, 130, 141) or "Traceback" in self.err

    @property
    def lines(self) -> list[str]:
        """The lines that say why it was refused."""
        lines = self.err.splitlines()
        return [x for x in lines if x.startswith("msprune: ") and "warning:" not in x]


class Running:
    """A process under way."""

    def __init__(self, work: Callable[[], int], folder: Path, setup: Setup | None = None) -> None:
        self._outputs = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self._done: tuple[int, Any] | None = None
        self.process = os.fork()
        if self.process == 0:
            self._run(work, folder, setup)

    def _run(self, work: Callable[[], int], folder: Path, setup: Setup | None) -> None:
        """Do the work in the new process, which ends here."""
        code = CRASHED
        try:
            os.setpgid(0, 0)
            for number, stream in enumerate(self._outputs, 1):
                os.dup2(stream.fileno(), number)
            sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
            sys.stderr = os.fdopen(
                2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
            )
            os.chdir(folder)
            if setup is not None:
                setup()
            code = work()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for said in (sys.stdout, sys.stderr):
                try:
                    said.flush()
                except OSError:
                    code = code or 120
            os._exit(code)

    def kill(self) -> None:
        """End it, and what it has started, by SIGKILL."""
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(self.process, signal.SIGKILL)

    def is_over(self) -> bool:
        """Tell whether it has ended."""
        if self._done is None:
            found, status, usage = os.wait4(self.process, os.WNOHANG)
            if found:
                self._done = status, usage
        return self._done is not None

    def wait(self, limit_s: float = LIMIT_S) -> Said:
        """Wait until it ends; one that takes longer is killed."""
        until, hung = time.monotonic() + limit_s, False
        while not self.is_over():
            if time.monotonic() > until:
                hung = True
                self.kill()
            select.select([], [], [], 0.01)
        assert self._done is not None
        status, usage = self._done
        texts = []
        for stream in self._outputs:
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
            stream.close()
        if hung:
            texts[1] += f"\nTraceback: it took more than {limit_s:.0f} s"
        code, peak = os.waitstatus_to_exitcode(status), 1024 * usage.ru_maxrss
        return Said(code, texts[0], texts[1], peak)


def start(arguments: Sequence[str], folder: Path, setup: Setup | None = None) -> Running:
    """Start ``msprune ARGUMENTS`` in a folder."""
    return Running(lambda: _call(list(arguments)), folder, setup)


def run(
    arguments: Sequence[str], folder: Path, setup: Setup | None = None, limit_s: float = LIMIT_S
) -> Said:
    """Run ``msprune ARGUMENTS`` in a folder to its end."""
    return start(arguments, folder, setup).wait(limit_s)


def call(work: Callable[[], Any], folder: Path, limit_s: float = LIMIT_S) -> Said:
    """Call a function in a process of its own; errors of msprune's families end it with 2."""
    return Running(lambda: _refuse(work), folder).wait(limit_s)


def limit_file_size(size: int) -> None:
    """Let no file of this process grow beyond so many bytes: as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _call(arguments: list[str]) -> int:
    from pruner.run import main

    return main(arguments)


def _refuse(work: Callable[[], Any]) -> int:
    from latency_tables import LatencyError
    from pruner import PrunerError
    from solver import SolverError

    try:
        found = work()
    except (PrunerError, LatencyError, SolverError) as error:
        print(f"msprune: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if found is not None:
        print(found)
    return 0
