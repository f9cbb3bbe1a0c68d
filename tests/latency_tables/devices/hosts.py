"""A loopback sshd for tests: an ordinary process on a high port, with keys made for it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_SFTP = next(
    (str(p) for p in map(Path, ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server"))
     if p.is_file()),
    "internal-sftp",
)  # fmt: skip
HOSTS = ("board", "board2", "board3")

_SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp {sftp}
SetEnv HOME={home} PATH={path}
ForceCommand cd {home} && exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
_CLIENT = """\
Host {host}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  LogLevel ERROR
"""


def can_serve() -> bool:
    """Whether there is an sshd, as Debian's openssh-server brings it."""
    return Path(SSHD).is_file() and shutil.which("ssh") is not None


@contextmanager
def serve(folder: Path, count: int = 1) -> Iterator[dict[str, Path]]:
    """Serve some hosts, each with a home of its own; yields their names and homes.

    ``folder/bin`` goes first on PATH: ssh and scp there read the configuration of these hosts, as
    they would read the user's own.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in ("host_key", "user_key"):
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    key = (folder / "host_key.pub").read_text().split()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    homes, processes, known = {}, [], []
    try:
        for host in HOSTS[:count]:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            home = homes[host] = folder / f"home-{host}"
            home.mkdir()
            server = folder / f"sshd-{host}"
            server.write_text(
                _SERVER.format(
                    port=port, folder=folder, home=home, path=os.environ["PATH"], sftp=_SFTP
                )
            )
            client = _CLIENT.format(host=host, port=port, folder=folder, user=getpass.getuser())
            with (folder / "ssh_config").open("a") as file:
                file.write(client)
            known.append(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
            log = (folder / f"log-{host}").open("w")
            processes.append(subprocess.Popen([SSHD, "-D", "-e", "-f", str(server)], stderr=log))
            _wait_for(port, folder / f"log-{host}")
        (folder / "known_hosts").write_text("".join(known))
        for name in ("ssh", "scp"):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {folder}/ssh_config "$@"\n')
            script.chmod(0o755)
        yield homes
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _wait_for(port: int, log: Path) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"sshd does not start: {log.read_text()}")


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
