"""How files and commands get to a device: by the system's own clients and the user's own keys."""

from __future__ import annotations

import logging
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CarrierError, EngineError, LatencyError

LOG = logging.getLogger("latency_tables.devices")
"""What is run over there is logged here, at level INFO."""
_RUNNER = "runner: "
_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")


@dataclass(frozen=True)
class Carrier:
    """A device that commands and files are brought to.

    Attributes:
        name: What the user calls it, e.g. ``ssh:pi@board``.
        shell: The client's command before one line for the shell over there.
        copy: The client's command before a file or folder here and its place over there.
        place: What stands before a path over there in ``copy``.
        root: The folder over there that everything is kept below.
        lost: The exit code by which the client says that the connection failed, not the command.
    """

    name: str
    shell: tuple[str, ...]
    copy: tuple[str, ...]
    place: str
    root: str
    lost: int | None

    def call(self, command: str, given: bytes = b"") -> str:
        """Run a line of the shell over there, with input; return its output.

        Raises:
            CarrierError: The device cannot be reached, or the command fails.
            EngineError: The runner over there says what is wrong.
        """
        argv = self._argv(command)
        done = self._run(argv, given)
        if done.returncode:
            raise self._explain(done.returncode, done.stderr)
        return done.stdout.decode("utf-8", "replace")

    def send(self, source: Path, target: str) -> None:
        """Copy a file or folder to a path over there."""
        argv = [*self.copy, str(source), f"{self.place}{target}"]
        LOG.info("%s", shlex.join(argv))
        done = self._run(argv, b"")
        if done.returncode:
            raise self._explain(done.returncode, done.stderr)

    def stream(self, command: str) -> Iterator[str]:
        """Run a line of the shell over there; yield its lines as they come.

        Its input stays open as long as somebody reads: it can tell when nobody does any more.
        """
        argv = self._argv(command)
        with tempfile.TemporaryFile() as said:
            process = self._start(argv, said.fileno())
            assert process.stdin is not None and process.stdout is not None
            try:
                for line in process.stdout:
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
                code = process.wait()
            finally:
                process.stdin.close()
                process.stdout.close()
                if process.poll() is None:  # nobody reads on: over there the present job ends
                    process.terminate()
                    process.wait()
            if code:
                said.seek(0)
                raise self._explain(code, said.read())

    def _argv(self, command: str) -> list[str]:
        LOG.info("%s: %s", self.name, command)
        return [*self.shell, command]

    def _run(self, argv: Sequence[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(argv, input=given, capture_output=True, check=False)
        except OSError as error:
            raise CarrierError(f"{self.name}: {argv[0]} cannot be run: {error}") from error

    def _start(self, argv: Sequence[str], said: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            )
        except OSError as error:
            raise CarrierError(f"{self.name}: {argv[0]} cannot be run: {error}") from error

    def _explain(self, code: int, said: bytes) -> LatencyError:
        """Make the error of a command that failed: of the connection, the runner, or the shell."""
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"exit code {code}"
        if code == self.lost or code < 0:
            return CarrierError(
                f"the connection to {self.name} failed ({last}); once "
                f"`{' '.join(self.shell)} true` works, the same command again continues"
            )
        if last.startswith(_RUNNER):  # another device would say the same
            return EngineError(f"{self.name}: {last.removeprefix(_RUNNER)}")
        return CarrierError(f"{self.name}: {last}")


def open_carrier(name: str) -> Carrier:
    """Make the carrier of ``ssh:HOST`` or ``adb:SERIAL``; nothing is connected yet."""
    kind, _, target = name.partition(":")
    if not target or target.startswith("-") or any(c.isspace() for c in target):
        raise LatencyError(f"{name!r} is no device: expected ssh:HOST or adb:SERIAL")
    if kind == "ssh":
        # What scp is told ends at a colon; a host's own port and user are ssh's configuration.
        return Carrier(
            name, ("ssh", *_ALIVE, target), ("scp", "-q", "-r", *_ALIVE), f"{target}:",
            ".cache/msprune-device", 255,
        )  # fmt: skip
    if kind == "adb":
        return Carrier(
            name, ("adb", "-s", target, "shell"), ("adb", "-s", target, "push"), "",
            "/data/local/tmp/msprune-device", None,
        )  # fmt: skip
    raise LatencyError(f"{name!r} is no device: expected ssh:HOST or adb:SERIAL")
