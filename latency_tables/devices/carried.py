"""An engine on a device that a carrier reaches: bundles go there, results stream back."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from ..device import Device
from ..errors import CarrierError, EngineError
from .assemble import assemble_runner
from .bundle import MANIFEST, SCRIPT, write_bundle
from .carriers import LOG, Carrier
from .job import Job, Pace, Setting
from .remote import RemoteEngine
from .result import JobResult, decode_base64, decode_line
from .tool_result import decode_archive
from .tools import TOOLS, assemble_tool_script, describe_tool_device, read_facts

_PLAIN = re.compile(r"[\w./~+-]+")
_RESULT, _DEVICE = "result ", "device "


class CarriedEngine(RemoteEngine):
    """Runs on a device that ssh or adb reaches, below one folder there, one runner at a time.

    Args:
        carrier: How it is reached.
        setting: Of the engine, or of a vendor's tool.
        python: The Python over there that has numpy and the engine.
        tool: The vendor's tool over there, with options that are always given to it, where it is
            not on PATH.
        with_weights: Ship weights instead of making them over there.
    """

    def __init__(
        self,
        carrier: Carrier,
        setting: Setting,
        python: str = "python3",
        tool: str = "",
        with_weights: bool = False,
    ) -> None:
        super().__init__(carrier.name, setting)
        self.carrier, self._with_weights = carrier, with_weights
        self._python = python if _PLAIN.fullmatch(python) else shlex.quote(python)
        self._tool = tool

    def look(self) -> Mapping[str, Any]:
        """Ask the device what it is and what is there; nothing is written there.

        Returns:
            ``python``, ``executable``, ``versions`` of libraries, ``tools``, ``temperature`` in
            degrees Celsius, ``throttled``, ``device``, and what is ``missing`` where that is None.
        """
        if self.setting.engine in TOOLS:
            return self._look_at_tool()
        text = json.dumps(self.setting.to_json())
        command = f"{self._python} - --describe {shlex.quote(text)}"
        said = self.carrier.call(command, assemble_runner().encode())
        for line in said.splitlines():
            if line.startswith(_DEVICE):
                found: dict[str, Any] = json.loads(line.removeprefix(_DEVICE))
                return found
        raise CarrierError(f"{self.where} did not say what it is: {said[:80]!r}")

    def _look_at_tool(self) -> Mapping[str, Any]:
        """Ask the same by the script that drives a vendor's tool."""
        script = assemble_tool_script(self.setting, rest_s=0.0)
        said = self.carrier.call(f"{self._name_programs()}sh -s -- --describe", script.encode())
        facts = read_facts(said)
        device = describe_tool_device(facts, self.setting)
        degrees = facts.get("temperature", "")
        return {
            "python": "", "executable": facts.get("program", ""),
            "versions": {device.engine: device.engine_version}, "tools": [device.engine],
            "temperature": int(degrees) / 1e3 if degrees.isdigit() else None,
            "throttled": bool(facts.get("throttled")), "device": device.to_json(), "missing": "",
        }  # fmt: skip

    @cached_property
    def device(self) -> Device:
        """The device and setting, at batch 1."""
        found = self.look()
        if found["device"] is None:
            raise EngineError(f"{self.where}: {found['missing']} (msprune device check)")
        return Device.from_json(found["device"])

    def run(
        self, campaign: str, jobs: Sequence[Job], pace: Pace, batch: int
    ) -> Iterator[JobResult]:
        """Bring a bundle there, run it, and yield results as they come."""
        setting = self.set_batch(batch)
        folder = self._place(campaign or uuid.uuid4().hex[:16], setting, pace)
        with tempfile.TemporaryDirectory(prefix="latency_tables_") as scratch:
            local = Path(scratch) / "bundle"
            manifest = write_bundle(
                local, self.where, setting, jobs, pace, self.export, self._with_weights
            )
            bundle = self._upload(local, folder, str(manifest["seal"])[:12])
        rows = {row["key"]: row for row in manifest["jobs"]}
        keys = set(rows)
        for line in self.carrier.stream(self._start(folder, bundle)):
            if not line.startswith(_RESULT):
                LOG.info("%s: %s", self.where, line)
                continue
            result = self._decode(line.removeprefix(_RESULT), setting, rows)
            if result.key in keys:
                keys.discard(result.key)
                yield result
        if keys:
            raise CarrierError(
                f"{self.where} ended with {len(keys)} of {len(jobs)} measurements still to run; "
                "the same command again continues"
            )
        left = f"{folder}/{bundle}" if campaign else folder
        self.carrier.call(f"rm -rf {left}")

    def _start(self, folder: str, bundle: str) -> str:
        """Return the command that runs a bundle over there."""
        places = f"--results {folder} --lock {self.carrier.root}/device.lock"
        # From where commands start, as in ``look``: the programs' paths may begin there.
        if self.setting.engine in TOOLS:
            programs = self._name_programs()
            return f"{programs}exec sh {folder}/{bundle}/{SCRIPT} {places} --stream"
        runner = f"{folder}/{bundle}/runner.py --bundle {folder}/{bundle}"
        return f"exec {self._python} {runner} {places} --attached --stream"

    def _name_programs(self) -> str:
        """Return the line's beginning that names the programs which the script calls."""
        tool = f"TOOL={shlex.quote(self._tool)} " if self._tool else ""
        return f"export {tool}PYTHON={self._python}; "

    def _decode(
        self, text: str, setting: Setting, rows: Mapping[str, Mapping[str, Any]]
    ) -> JobResult:
        if setting.engine in TOOLS:
            where = f"a result from {self.where}"
            return decode_archive(decode_base64(text, self.where), where, setting, rows)
        return decode_line(text, self.where)

    def finish(self, campaign: str) -> None:
        """Keep what the device has of a campaign, if anything, aside, the newest one only."""
        self.carrier.call(
            f'cd {self.carrier.root} 2>/dev/null || exit 0; set -- {campaign}-*; [ -d "$1" ] || '
            f'exit 0; rm -rf done-{campaign}-* && for d in "$@"; do mv "$d" "done-$d"; done'
        )

    def _place(self, campaign: str, setting: Setting, pace: Pace) -> str:
        """Return the folder of a campaign over there: what is measured alike shares results."""
        text = json.dumps([setting.to_json(), asdict(pace)], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.carrier.root}/{campaign}-{digest}"

    def _upload(self, local: Path, folder: str, digest: str) -> str:
        """Copy a bundle there unless it is; return its name. Whole or not at all."""
        name, scratch = f"bundle-{digest}", f".bringing-{uuid.uuid4().hex[:8]}"
        known = self.carrier.call(
            f"mkdir -p {folder} && cd {folder} && "
            "find . -maxdepth 1 -name '.bringing-*' -mmin +60 -exec rm -rf {} + ; "
            f"if [ -f {name}/{MANIFEST} ]; then echo there; fi"
        )
        if "there" not in known:
            self.carrier.send(local, f"{folder}/{scratch}")
            self.carrier.call(f"cd {folder} && mv {scratch} {name}")
        return name
