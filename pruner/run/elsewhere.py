"""Where a network is measured: here, or on a device that is named by ``measure.device``."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import latency_tables
from latency_tables import (
    BundledEngine,
    CarriedEngine,
    CollectedEngine,
    Engine,
    FleetEngine,
    RemoteEngine,
    Setting,
)

from ..errors import PrunerError
from ..utils import parse_yaml, wrong_value
from .config import MeasureConfig

_FLEETS = (".yaml", ".yml")
_CARRIED = ("ssh", "adb")
_OWN = ("python", "tool")  # settings that a device of a fleet may have of its own
_EXPECTED = "bundle:DIR, collect:DIR, ssh:HOST, adb:SERIAL or a fleet's .yaml"


def open_engine(options: MeasureConfig) -> Engine:
    """Make the engine that measures, here or elsewhere; nothing is connected yet.

    Raises:
        PrunerError: The device makes no sense.
        LatencyError: The engine is not known, not installed here, or none that runs elsewhere.
    """
    name, precision = options.device, options.precision
    if name is None:
        return latency_tables.engine(options.engine, threads=options.threads, precision=precision)
    setting = Setting(options.engine, options.threads, precision)
    kind, _, rest = name.partition(":")
    if kind == "bundle" and rest:
        return BundledEngine(Path(rest), setting, options.with_weights)
    if kind == "collect" and rest:
        return CollectedEngine(Path(rest), setting)
    if name.endswith(_FLEETS):
        return _open_fleet(Path(name), setting, options)
    return open_carried(name, setting, options)


def resolve_device(name: str | None) -> str | None:
    """Return it with an absolute path, where it has one."""
    kind, colon, rest = (name or "").partition(":")
    if name and kind in ("bundle", "collect") and rest:
        return f"{kind}{colon}{Path(rest).absolute()}"
    return str(Path(name).absolute()) if name and name.endswith(_FLEETS) else name


@contextmanager
def show_commands(wanted: bool) -> Iterator[None]:
    """Print what is run elsewhere, and always what is left out of a fleet, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("  %(message)s"))
    level = latency_tables.DEVICE_LOG.level
    latency_tables.DEVICE_LOG.addHandler(handler)
    latency_tables.DEVICE_LOG.setLevel(logging.INFO if wanted else logging.WARNING)
    try:
        yield
    finally:
        latency_tables.DEVICE_LOG.removeHandler(handler)
        latency_tables.DEVICE_LOG.setLevel(level)


def open_carried(name: str, setting: Setting, options: MeasureConfig) -> CarriedEngine:
    """Make the engine of a device that ssh or adb reaches; PrunerError where it is another."""
    if name.partition(":")[0] not in _CARRIED:
        raise wrong_value("device", _EXPECTED, name)
    return CarriedEngine(
        latency_tables.open_carrier(name), setting, options.python, options.tool,
        options.with_weights,
    )  # fmt: skip


def _open_fleet(path: Path, setting: Setting, options: MeasureConfig) -> FleetEngine:
    if not path.is_file():
        raise PrunerError(f"there is no fleet file {str(path)!r}")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PrunerError(f"{path}: not YAML: {error}") from error
    entries = content.get("devices") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise wrong_value(f"{path}: devices", "a list of ssh:HOST or adb:SERIAL", entries)
    members: list[RemoteEngine] = []
    for entry in entries:
        one = {"device": entry} if isinstance(entry, str) else entry
        known = isinstance(one, dict) and {"device"} <= set(one) <= {"device", *_OWN}
        if not known or not all(isinstance(text, str) for text in one.values()):
            expected = f"each a text, or device and {' or '.join(_OWN)}"
            raise wrong_value(f"{path}: devices", expected, entry)
        if any(member.where == one["device"] for member in members):
            raise wrong_value(f"{path}: devices", "each one once", entry)
        own: dict[str, Any] = {key: one[key] for key in _OWN if key in one}
        members.append(open_carried(one["device"], setting, replace(options, **own)))
    return FleetEngine(path.name, members)
