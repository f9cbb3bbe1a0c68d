"""Bundles that are carried by hand: written here, run over there, collected here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from ..device import Device
from ..errors import LatencyError, UnfinishedError
from .assemble import RUNNER
from .bundle import MANIFEST, SCRIPT, read_bundle, write_bundle
from .job import Job, Pace, Setting
from .remote import RemoteEngine
from .result import JobResult, read_results
from .tool_result import read_archives
from .tools import TOOLS

MORE = "more"
"""Below a bundle: what was asked for later, a bundle each."""


class BundledEngine(RemoteEngine):
    """Writes a bundle, which is then carried by hand; nothing can be measured by it here."""

    grows = False

    def __init__(self, folder: Path, setting: Setting, with_weights: bool = False) -> None:
        super().__init__(f"bundle:{folder}", setting)
        self.folder, self._with_weights = folder, with_weights

    @property
    def device(self) -> Device:
        """Refuse: it is not known before the bundle is run."""
        raise self._explain()

    def run(
        self, campaign: str, jobs: Sequence[Job], pace: Pace, batch: int
    ) -> Iterator[JobResult]:
        """Refuse, as ``device`` does."""
        raise self._explain()

    def write(self, name: str, jobs: Iterable[Job], pace: Pace, batch: int) -> None:
        """Write the bundle of these jobs of a network."""
        write_bundle(
            self.folder, name, self.set_batch(batch), jobs, pace, self.export, self._with_weights
        )

    def _explain(self) -> UnfinishedError:
        return UnfinishedError(
            f"the device of {self.where} is known when the bundle has been run: "
            f"--device collect:{self.folder}"
        )


class CollectedEngine(RemoteEngine):
    """Reads the results that a bundle brought back; what is missing is said, or put into one."""

    grows = False

    def __init__(self, folder: Path, setting: Setting) -> None:
        super().__init__(f"collect:{folder}", setting)
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise LatencyError(f"{folder} holds no bundle: write one with --device bundle:{folder}")
        manifest = read_bundle(folder)
        own = manifest["setting"]
        self._with_weights = RUNNER not in manifest["files"]  # which makes them
        for name, value in setting.to_json().items():
            if name != "batch" and own[name] != value:
                raise LatencyError(f"{folder} is a bundle for {name} {own[name]}, not {value}")

    @cached_property
    def _results(self) -> dict[str, JobResult]:
        found: dict[str, JobResult] = {}
        for bundle in self._bundles():
            for key, result in _read_results(bundle).items():
                if found:
                    result.device.check_same(next(iter(found.values())).device, str(self.folder))
                found[key] = result
        return found

    @property
    def device(self) -> Device:
        """The device that the bundle was run on."""
        if not self._results:
            raise UnfinishedError(
                f"nothing of {self.folder} is measured yet: run {self.folder / SCRIPT} on the "
                "device, bring the folder back, and give the same command again"
            )
        return next(iter(self._results.values())).device.at_batch(1)

    def run(
        self, campaign: str, jobs: Sequence[Job], pace: Pace, batch: int
    ) -> Iterator[JobResult]:
        """Yield what is there; raise ``UnfinishedError`` where something is not."""
        missing = []
        for job in jobs:
            result = self._results.get(job.key)
            if result is None:
                missing.append(job)
            else:
                yield result
        if not missing:
            return
        place = self._find_bundle({job.key for job in missing})
        if place is None:
            place = self.folder / MORE / missing[0].key
            write_bundle(
                place, self.where, self.set_batch(batch), missing, pace, self.export,
                self._with_weights,
            )  # fmt: skip
        raise UnfinishedError(
            f"{len(missing)} of {len(jobs)} measurements are still to run: run {place / SCRIPT} on "
            "the device, bring the folder back, and give the same command again"
        )

    def _bundles(self) -> list[Path]:
        more = sorted((self.folder / MORE).glob(f"*/{MANIFEST}"))
        return [self.folder, *(path.parent for path in more)]

    def _find_bundle(self, keys: set[str]) -> Path | None:
        """Find the first bundle that asks for any of these jobs."""
        for bundle in self._bundles():
            if keys & {job["key"] for job in read_bundle(bundle)["jobs"]}:
                return bundle
        return None


def _read_results(folder: Path) -> dict[str, JobResult]:
    """Read what a bundle's runner, or the vendor's tool that it drives, has brought back."""
    manifest = read_bundle(folder)
    setting = Setting(**manifest["setting"])
    if setting.engine in TOOLS:
        return read_archives(folder, setting, {job["key"]: job for job in manifest["jobs"]})
    return read_results(folder)
