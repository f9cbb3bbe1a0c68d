"""What is said of devices elsewhere: a bundle that was written, a device that was looked at."""

from collections.abc import Mapping
from typing import Any

import latency_tables
from latency_tables import TOOLS, BundledEngine, Setting

from ..errors import PrunerError
from ..structure import Network
from .config import Config, MeasureConfig
from .console_summary import Outcome
from .elsewhere import open_carried


def write_bundle(net: Network, engine: BundledEngine, config: Config) -> Outcome:
    """Write the bundle of a network's measurement, and say what to do with it."""
    options, folder = config.measure, engine.folder
    count = latency_tables.write_probe_bundle(
        net, engine, probes=options.probes, quick=options.quick, seed=config.seed
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    weights = (folder / "runner.py").is_file()
    needs = [f"TOOL names {engine.name} where it is not on PATH"] if engine.name in TOOLS else []
    if weights:
        what = "numpy, which makes the weights" if needs else "numpy and the engine"
        needs.append(f"PYTHON names a Python that has {what}")
    lines = (
        f"{folder}: {count} probes of {net.name}, {size / 1e6:.1f} MB, for {engine.name}",
        f"  1. copy it to the device, and run it there: sh {folder.name}/run.sh",
        f"     ({'; '.join(needs)}; cut off, it continues)",
        f"  2. copy it back, and give the same command with --device collect:{folder}",
    )
    return Outcome("\n".join(lines), {"bundle": str(folder), "probes": count, "bytes": size})


def check_device(name: str, options: MeasureConfig) -> Outcome:
    """Say what a device is, what is there, and what is missing."""
    setting = Setting(options.engine, options.threads, options.precision)
    found = open_carried(name, setting, options).look()
    lines = [f"{name}: {_describe(found)}"]
    versions = [f"{own} {version}" for own, version in found["versions"].items() if version]
    program = f"Python {found['python']}" if found["python"] else "tool"
    lines.append(f"  {program} ({found['executable']}): {', '.join(versions)}")
    if found["tools"]:
        lines.append(f"  tools: {', '.join(found['tools'])}")
    if found["temperature"] is not None:
        throttled = ", throttled" if found["throttled"] else ""
        lines.append(f"  temperature {found['temperature']:.0f} degrees{throttled}")
    if found["missing"]:
        raise PrunerError("; ".join([*lines, f"missing: {found['missing']}"]))
    lines.append(f"  ready: msprune measure MODEL --device {name} --out RUN")
    return Outcome("\n".join(lines), dict(found))


def _describe(found: Mapping[str, Any]) -> str:
    if found["device"] is None:
        return "reached"
    device = latency_tables.Device.from_json(found["device"])
    clock = f", now {device.clock_mhz:.0f} MHz" if device.clock_mhz else ""
    return f"{device}, {device.system}{clock}"
