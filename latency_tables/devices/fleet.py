"""Several devices of one model that share the jobs: each has one at a time, and one may fail."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from ..device import Device
from ..errors import CarrierError, LatencyError
from .carriers import LOG
from .job import Job, Pace
from .remote import RemoteEngine
from .result import JobResult

_Found: TypeAlias = tuple[JobResult, RemoteEngine]

_LEASE = 4  # jobs that a device is given at once, at most
_ODD = 0.05  # off the median of the references from which a device is left out


class FleetEngine(RemoteEngine):
    """Shares jobs among devices of one model and setting; those that fail or differ are left out.

    Every job is given out once, to whichever device is free; what a device that failed had not
    finished goes to the others.

    Args:
        members: The devices, at least one; all in one setting.
    """

    def __init__(self, where: str, members: Sequence[RemoteEngine]) -> None:
        if not members:
            raise LatencyError(f"{where} names no devices")
        super().__init__(where, members[0].setting)
        self._members = list(members)
        self.left_out: dict[str, str] = {}
        self._compared = False

    @cached_property
    def device(self) -> Device:
        """The device that they all are; those that are none are left out by name."""
        first: Device | None = None
        for member in list(self._members):
            try:
                own = member.device
            except CarrierError as error:
                self._leave_out(member, str(error))
                continue
            if first is None:
                first = own
            elif own != first:
                different = [
                    f"{name} is {getattr(own, name)!r}, not {getattr(first, name)!r}"
                    for name in own.to_json()
                    if getattr(own, name) != getattr(first, name)
                    and name not in ("host", "clock_mhz")
                ]
                self._leave_out(member, f"it is another device: {'; '.join(different)}")
        if first is None:
            raise CarrierError(f"no device of {self.where} can be used: {self._say_left_out()}")
        return replace(first, host=self.where)

    def run(
        self, campaign: str, jobs: Sequence[Job], pace: Pace, batch: int
    ) -> Iterator[JobResult]:
        """Give jobs out; yield results as they come."""
        _ = self.device
        left = list(jobs)
        while left:
            if not self._members:
                raise CarrierError(f"no device of {self.where} is left: {self._say_left_out()}")
            # One structure, or networks in turn, are one device's.
            alone = not campaign or len(self._members) == 1 or len(left) == 1
            share = _Share(self._members[:1] if alone else self._members, campaign, pace, batch)
            first = not self._compared and not alone
            # First one job each, by which they are compared.
            turn = left[: len(self._members)] if first else left
            results = share.run(turn, 1 if first else _LEASE, once=first)
            if first:
                results = self._compare_references(list(results))
            for result, _ in results:
                left = [job for job in left if job.key != result.key]
                yield result
            for member, why in share.failed:
                self._leave_out(member, why)

    def finish(self, campaign: str) -> None:
        """Tell all devices that are left."""
        for member in list(self._members):
            try:
                member.finish(campaign)
            except CarrierError as error:  # all results are here
                self._leave_out(member, str(error))

    def _compare_references(self, found: Sequence[_Found]) -> Iterator[_Found]:
        """Leave out devices whose reference is off the median; yield the others' results."""
        if not found:
            return
        self._compared = True
        references = {
            member.where: float(np.median([lap.wall_ms for lap in own.builds[0].laps["reference"]]))
            for own, member in found
        }
        usual = float(np.median(list(references.values())))
        off = {name: ms / usual - 1 for name, ms in references.items()}
        odd = {name for name, own in off.items() if abs(own) > _ODD}
        if len(references) - len(odd) < 2:
            odd = set()  # two that differ do not tell which is odd
        for own, member in found:
            if member.where in odd:
                why = f"its uncut network is {off[member.where]:+.0%} off the fleet's median"
                self._leave_out(member, why)
            else:
                yield own, member

    def _leave_out(self, member: RemoteEngine, why: str) -> None:
        self._members.remove(member)
        self.left_out[member.where] = why
        LOG.warning("%s is left out of %s: %s", member.where, self.where, why)

    def _say_left_out(self) -> str:
        return "; ".join(f"{name}: {why}" for name, why in self.left_out.items())


class _Share:
    """One round of jobs shared among devices, each in a thread of its own."""

    def __init__(
        self, members: Sequence[RemoteEngine], campaign: str, pace: Pace, batch: int
    ) -> None:
        self._members, self._campaign, self._pace, self._batch = members, campaign, pace, batch
        self._change = threading.Condition()
        self._waiting: list[Job] = []
        self._unfinished = 0
        self._stopped = False
        self._found: queue.Queue[_Found | BaseException | None] = queue.Queue()
        self.failed: list[tuple[RemoteEngine, str]] = []

    def run(self, jobs: Sequence[Job], lease: int, once: bool) -> Iterator[_Found]:
        """Yield results with who brought them; those of devices that fail go to the others.

        ``once``: every device takes one lease, and what fails is left.
        """
        self._waiting, self._unfinished = list(jobs), len(jobs)
        threads = [
            threading.Thread(target=self._work, args=(member, lease, once), daemon=True)
            for member in self._members
        ]
        for thread in threads:
            thread.start()
        working = len(threads)
        try:
            while working:
                found = self._found.get()
                if found is None:
                    working -= 1
                elif isinstance(found, BaseException):
                    raise found
                else:
                    yield found
        finally:
            with self._change:
                self._stopped = True
                self._change.notify_all()
            for thread in threads:
                thread.join()

    def _work(self, member: RemoteEngine, lease: int, once: bool) -> None:
        try:
            while jobs := self._take(lease):
                self._run_lease(member, jobs)
                if once:
                    break
        except CarrierError as error:
            self.failed.append((member, str(error)))
        except BaseException as error:  # raised where the results are read
            self._found.put(error)
        finally:
            self._found.put(None)

    def _run_lease(self, member: RemoteEngine, jobs: list[Job]) -> None:
        left = {job.key: job for job in jobs}
        try:
            for result in member.run(self._campaign, jobs, self._pace, self._batch):
                if left.pop(result.key, None) is not None:
                    with self._change:
                        self._unfinished -= 1
                        self._change.notify_all()
                    self._found.put((result, member))
                if self._stopped:
                    return
        finally:
            with self._change:
                self._waiting[:0] = left.values()
                self._change.notify_all()

    def _take(self, lease: int) -> list[Job]:
        """Take some jobs; wait while others may give some back; none: all are done."""
        with self._change:
            while not self._waiting and self._unfinished and not self._stopped:
                self._change.wait()
            if self._stopped:
                return []
            # Less towards the end, so that all are done at about the same time.
            lease = max(1, min(lease, len(self._waiting) // (2 * len(self._members))))
            taken, self._waiting = self._waiting[:lease], self._waiting[lease:]
            return taken
