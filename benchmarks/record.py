"""What benchmarks share: files of results, reports from templates, networks, processes.

Nothing large is imported before it is needed: a solver's process is to hold no torch.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def read_json(path: Path, default: Any) -> Any:
    """Return what a file holds, the default where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def write_json(path: Path, content: Any, end: str = "\n") -> None:
    """Write indented JSON, as ``write_result`` does."""
    write_result(path, json.dumps(content, indent=1) + end)


def write_result(path: Path, text: str) -> None:
    """Write text, whole or not at all, into a folder that need not be there."""
    from pruner.utils import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def resume(path: Path, start: dict[str, Any], key: str, otherwise: str = "") -> dict[str, Any]:
    """Return earlier results to go on from, or start where they differ from it in the key.

    otherwise says why, and is printed, where earlier results are left aside.
    """
    before: dict[str, Any] = read_json(path, start)
    if before[key] == start[key]:
        return before
    if otherwise:
        print(f"{otherwise}: starting afresh")
    return start


def describe_machine(packages: Iterable[str]) -> dict[str, Any]:
    """Return the processor, system and versions that numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    affine = hasattr(os, "sched_getaffinity")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if affine else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def build_module(name: str, **arguments: Any) -> Any:
    """Build a network of timm or torchvision, by its MODEL string, with random weights."""
    library, _, model = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(model, pretrained=False, **arguments)
    import torchvision

    return torchvision.models.get_model(model, weights=None, **arguments)


def run_module(name: str, *arguments: Any, limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run ``python -m NAME ARGUMENTS`` in a process of its own, where it can crash and hang.

    Raises:
        subprocess.TimeoutExpired: It took more wall-clock seconds than limit_s.
    """
    command = [sys.executable, "-m", name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, cwd=ROOT)


def render(template: str, **values: Any) -> str:
    """Fill in a template of ``templates/``."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(show=show_number, align=align_table)
    return environment.get_template(template).render(**values)


def show_number(value: float | None, form: str) -> str:
    """Format a number; a dash where there is none."""
    return "-" if value is None else format(value, form)


def align_table(lines: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Write a Markdown table whose columns line up."""
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    rows = [head, ["-" * width for width in widths], *lines]
    return "\n".join(f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in rows)
