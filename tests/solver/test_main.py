"""The command line, and what the package imports."""

from __future__ import annotations

import json
import subprocess
import sys

from solver.__main__ import main

from .problems import concatenation_problem


def test_the_command_line(tmp_path, capsys):
    problem = concatenation_problem(layers=2, widest=8)
    path = tmp_path / "p.json"
    problem.to_json(path)
    assert main([str(path), "--explain"]) == 0
    printed = capsys.readouterr().out
    assert "optimal" in printed and "sum1 = " in printed and "at the margin" in printed
    assert main([str(path), "--json", "--budget", "ms=1000"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["status"] == "optimal" and plain["budgets"] == {"ms": 1000.0}
    assert main([str(path), "--budget", "ms=0"]) == 1
    assert "smallest reachable ms" in capsys.readouterr().out
    for wrong in (["none.json"], [str(path), "--budget", "mb=1"], [str(path), "--budget", "x"]):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_import_is_light():
    code = (
        "import sys, solver; "
        "print([m for m in ('pyomo', 'highspy', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
