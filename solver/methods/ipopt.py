"""Ipopt for MindtPy: an executable on the path, or the one inside the casadi wheel.

Pyomo talks to Ipopt through AMPL's files (``.nl`` in, ``.sol`` out). Binaries that do so come from
conda or IDAES; casadi, a plain wheel, carries Ipopt and reads ``.nl``, so ``python -m
solver.methods.ipopt STUB`` is such a binary wherever casadi is installed.
"""

import importlib.util
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def provide_ipopt() -> Iterator[bool]:
    """Make Pyomo find Ipopt for a while; yield whether there is one."""
    from pyomo.common import Executable

    program = Executable("ipopt")
    program.rehash()
    if program.available():
        yield True
        return
    if importlib.util.find_spec("casadi") is None:
        yield False
        return
    with tempfile.TemporaryDirectory() as folder:
        launcher = Path(folder) / "ipopt"
        root = Path(__file__).resolve().parents[2]
        paths = os.pathsep.join([str(root), *(p for p in sys.path if p)])
        call = f'PYTHONPATH="{paths}" exec "{sys.executable}" -m {__spec__.name} "$@"'
        launcher.write_text(f"#!/bin/sh\n{call}\n")
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
        program.set_path(str(launcher))
        try:
            yield True
        finally:
            program.rehash()


def main(arguments: list[str]) -> int:
    """Solve ``STUB.nl`` and write ``STUB.sol``; ``-v`` prints a version as Ipopt does."""
    if not arguments or arguments[0] in ("-v", "--version"):
        print("Ipopt 3.14 (casadi)")
        return 0
    import casadi

    stub = arguments[0].removesuffix(".nl")
    program = casadi.NlpBuilder()
    program.import_nl(f"{stub}.nl")
    functions = {"x": casadi.vertcat(*program.x), "f": program.f, "g": casadi.vertcat(*program.g)}
    quiet = {"ipopt.print_level": 0, "print_time": 0, "error_on_fail": False}
    engine = casadi.nlpsol("solver", "ipopt", functions, quiet)
    answer = engine(
        x0=program.x_init, lbx=program.x_lb, ubx=program.x_ub, lbg=program.g_lb, ubg=program.g_ub
    )
    stats = engine.stats()
    point = np.array(answer["x"]).ravel()
    duals = -np.array(answer["lam_g"]).ravel()
    # AMPL's codes: below 100 solved, from 200 infeasible, from 400 a limit.
    code = 0 if stats["success"] else 200 if "nfeasible" in stats["return_status"] else 400
    sizes = [len(duals), len(duals), len(point), len(point)]
    lines = [f"Ipopt (casadi): {stats['return_status']}", "", "Options", "3", "1", "1", "0"]
    lines += [str(n) for n in sizes] + [f"{x:.17g}" for x in (*duals, *point)]
    Path(f"{stub}.sol").write_text("\n".join([*lines, f"objno 0 {code}", ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
