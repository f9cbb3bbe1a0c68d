"""Measures what a bundle asks for, job by job; what is measured already is not measured again.

    python3 runner.py                 run the bundle that this file lies in
    python3 runner.py --describe ...  say what this device is, and write nothing

Needs Python 3.8 or later, numpy, and the engine: onnxruntime, openvino, or tensorrt with pycuda.
It needs no network and writes into its own folder only (results/, raw/).
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import glob
import gzip
import json
import os
import sys
import tempfile
import threading
import time

import numpy as np

from .device_facts import is_throttled, read_temperature, run_quietly, same_device
from .laps import TimeShare, time_in_turn, time_rounds
from .models import load_model
from .onnxruntime_part import OrtRunnerEngine
from .openvino_part import OpenVinoRunnerEngine
from .records import RunnerError, pack_record, read_file, read_manifest, read_record, write_file
from .tensorrt_part import TensorRtRunnerEngine

RUNNER_ENGINES = {
    "onnxruntime": OrtRunnerEngine,
    "openvino": OpenVinoRunnerEngine,
    "tensorrt": TensorRtRunnerEngine,
}
MOST_PROFILED = 100
SLOWER = 1.08  # than usual, by its reference: a device that is throttled rests
MOST_RESTS = 4
STOPPED = 3


class BundleRun:
    """A bundle under way on this device."""

    def __init__(self, folder, results, stream, stopped):
        self.folder, self.stream, self.stopped = folder, stream, stopped
        self.results, self.raw = os.path.join(results, "results"), os.path.join(results, "raw")
        self.manifest = read_manifest(folder)
        self.setting = self.manifest["setting"]
        self.engine = open_engine(self.setting)
        self.device = self.engine.describe()
        self.references = []
        self.rested = 0
        os.makedirs(self.results, exist_ok=True)
        os.makedirs(self.raw, exist_ok=True)

    def run(self):
        """Run all jobs; return the exit code."""
        jobs, missing = self.manifest["jobs"], []
        self.check_earlier()
        for job in jobs:
            path = self.path(job)
            if os.path.exists(path):
                self.show(path)
            else:
                missing.append(job)
        share = TimeShare(self.manifest["budget"], len(missing))
        begun = time.monotonic()
        for index, job in enumerate(missing):
            if self.stopped.is_set():
                return STOPPED
            record = self.measure(job, share)
            write_file(self.path(job), pack_record(record))
            self.show(self.path(job))
            done = len(jobs) - len(missing) + index + 1
            left_s = (time.monotonic() - begun) / (index + 1) * (len(missing) - index - 1)
            self.say(f"{done} of {len(jobs)} done, {left_s:.0f} s left")
            self.rest(record)
        return 0

    def path(self, job):
        """Return the file of a job's result."""
        return os.path.join(self.results, job["key"] + ".json.gz")

    def check_earlier(self):
        """Refuse results that were edited, or that another device has left."""
        for path in sorted(glob.glob(os.path.join(self.results, "*.json.gz"))):
            record = read_record(path)
            if record is None:
                raise RunnerError(f"{path} was edited or cut: delete it, and it is measured again")
            names = same_device(record["device"], self.device)
            if names:
                said = "; ".join(
                    "{} is {!r} there, {!r} here".format(
                        name, record["device"].get(name), self.device.get(name)
                    )
                    for name in names
                )
                raise RunnerError(
                    f"{path} is of another device or setting ({said}): a bundle is run on one "
                    f"device; use a fresh copy for this one, or delete {self.results}"
                )

    def measure(self, job, share):
        """Measure one job; return its record without the seal."""
        start, began = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        watch = self.setting["threads"] == 1 and self.setting["engine"] != "tensorrt"
        builds = []
        for number in range(job["builds"]):
            builds.append(self.build_and_time(job, number, share, watch))
        seconds = time.monotonic() - start
        if "target" in job:
            laps = [own["laps"][job["target"]] for own in builds]
            share.spend(seconds, sum(sum(wall for wall, _ in own) for own in laps) / 1e6)
        return {
            "key": job["key"], "device": self.device, "measured_at": began,
            "seconds": round(seconds, 2), "temperature": read_temperature(), "builds": builds,
        }  # fmt: skip

    def build_and_time(self, job, number, share, watch):
        """Build a job's networks, time them, and profile the one that is asked about."""
        sessions = {}
        try:
            for role, name in sorted(job["models"].items(), reverse=True):
                sessions[role] = self.engine.build(*load_model(self.folder, name))
            if "target" not in job:
                lists = time_rounds(sessions, job["rounds"], job["runs"], watch)
                return {"laps": {role: round_laps(own.laps) for role, own in lists.items()}}
            limits = dict(job["limits"])
            if limits["seconds"] is None:
                limits["seconds"] = share.next_seconds()
            target = job["target"]
            lists = time_in_turn(sessions, target, limits, watch)
            usual_us = max(lists[target].summarize()[0], 1.0)
            runs = int(1e6 * self.manifest["budget"]["profile_s"] / usual_us)
            runs = max(limits["least"], min(runs, MOST_PROFILED))
            prefix = os.path.join(self.raw, f"{job['key']}-{number}")
            steps, rows, laps, raw = sessions[target].profile(runs, prefix)
        finally:
            for session in sessions.values():
                session.close()
        kept = prefix + ".profile.gz"
        write_file(kept, gzip.compress(read_file(raw), 1))
        os.remove(raw)
        return {
            "laps": {role: round_laps(own.laps) for role, own in lists.items()},
            "profile": {"steps": steps, "us": rows, "laps": round_laps(laps)},
            "raw": os.path.basename(kept),
        }

    def rest(self, record):
        """Pause where the reference network shows a device that its system holds down."""
        laps = [own["laps"]["reference"] for own in record["builds"] if "reference" in own["laps"]]
        if not laps:
            return
        now = float(np.median([wall for own in laps for wall, _ in own]))
        self.references.append(now)
        usual = float(np.median(self.references[:5]))
        if now <= SLOWER * usual or not is_throttled() or self.rested >= MOST_RESTS:
            if now <= SLOWER * usual:
                self.rested = 0
            return
        self.rested += 1
        seconds = self.manifest["budget"]["rest_s"]
        self.say(f"slower by {100 * (now / usual - 1):.0f}%: resting for {seconds:.0f} s")
        self.stopped.wait(seconds)

    def show(self, path):
        """Give a result to who is listening."""
        if self.stream:
            sys.stdout.write("result " + base64.b64encode(read_file(path)).decode() + "\n")
            sys.stdout.flush()

    def say(self, text):
        """Print a line of progress."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def round_laps(laps):
    """Round laps to tenths of microseconds."""
    return [[round(wall, 1), round(cpu, 1)] for wall, cpu in laps]


def open_engine(setting):
    """Make an engine; say what is missing where it cannot be imported."""
    try:
        return RUNNER_ENGINES[setting["engine"]](setting)
    except ImportError as error:
        raise RunnerError(
            f"engine {setting['engine']} cannot be imported ({error}) by {sys.executable}: "
            "install it there, or name another Python"
        ) from error


def describe(setting):
    """Return what this device is, for a setting, and what its state is."""
    versions = {}
    for name in ("numpy", "onnxruntime", "openvino", "tensorrt"):
        try:
            versions[name] = __import__(name).__version__
        except Exception as error:  # libraries that are there and cannot be loaded, too
            versions[name] = "" if isinstance(error, ImportError) else f"({error})"
    tools = [
        name for name in ("trtexec", "onnxruntime_perf_test", "benchmark_app", "benchmark_model")
        if run_quietly(["sh", "-c", "command -v " + name])
    ]  # fmt: skip
    found = {
        "python": sys.version.split()[0], "executable": sys.executable, "versions": versions,
        "tools": tools, "temperature": read_temperature(), "throttled": is_throttled(),
        "device": None, "missing": "",
    }  # fmt: skip
    try:
        found["device"] = open_engine(setting).describe()
    except RunnerError as error:
        found["missing"] = str(error)
    return found


def watch_input(stopped):
    """Stop after the present job once who started this is gone: its end of the pipe closes."""
    # Past Python's own buffer, whose lock a thread must not hold when the program ends.
    while os.read(0, 4096):
        pass
    stopped.set()


def move_home(folder):
    """Have libraries that write into the user's folder write into this one."""
    os.environ["HOME"] = folder
    os.environ["XDG_CACHE_HOME"] = os.path.join(folder, ".cache")


def take_lock(path):
    """Keep other runners out of a folder; wait for one that is there. Freed when this one ends."""
    file = open(path, "a")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("another runner works here: waiting until it is done", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def main(arguments=None):
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(globals().get("__file__") or "."))
    parser.add_argument("--bundle", default=here, help="the bundle (default: where this file is)")
    parser.add_argument("--results", help="where results/ and raw/ go (default: the bundle)")
    parser.add_argument("--lock", help="a file to lock (default: .lock beside results)")
    parser.add_argument("--attached", action="store_true", help="stop once stdin is closed")
    parser.add_argument("--stream", action="store_true", help="print results, too")
    parser.add_argument("--write-models", metavar="DIR", help="write ONNX files with weights")
    parser.add_argument("--model", help="of --write-models: this one only, without .onnx")
    parser.add_argument("--describe", metavar="SETTING", help="a setting as JSON; writes nothing")
    options = parser.parse_args(arguments)
    try:
        if options.describe:
            # Libraries that write into the user's folder when they are imported write here.
            with tempfile.TemporaryDirectory() as scratch:
                move_home(scratch)
                print("device " + json.dumps(describe(json.loads(options.describe))), flush=True)
            return 0
        if options.write_models:
            return write_models(options.bundle, options.write_models, options.model)
        stopped = threading.Event()
        if options.attached:
            threading.Thread(target=watch_input, args=(stopped,), daemon=True).start()
        results = options.results or options.bundle
        os.makedirs(results, exist_ok=True)
        move_home(os.path.abspath(os.path.join(results, "raw", "home")))
        lock = take_lock(options.lock or os.path.join(results, ".lock"))
        with lock:
            return BundleRun(options.bundle, results, options.stream, stopped).run()
    except RunnerError as error:
        print(f"runner: {error}", file=sys.stderr, flush=True)
        return 2


def write_models(folder, target, only=None):
    """Write a bundle's models with their weights, for tools that read ONNX files."""
    os.makedirs(target, exist_ok=True)
    for name in sorted(read_manifest(folder)["files"]):
        if name.startswith("models/") and only in (None, os.path.basename(name)[:-3]):
            model, _ = load_model(folder, os.path.basename(name))
            write_file(os.path.join(target, os.path.basename(name)[:-3] + ".onnx"), model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
