"""What this device is: the fields of ``latency_tables.Device``, and what may change meanwhile."""

from __future__ import annotations

import glob
import os
import platform
import subprocess

INSTRUCTIONS = (
    *("avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


GPUS = ("gpu", "ga10b", "gv11b", "gp10b")
NVIDIA_HELD = 0xE8  # thermal and hardware slowdowns among the reasons that nvidia-smi gives


def read_text(path):
    """Read a small file; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:
        return ""


def count_cores():
    """Count the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_processor():
    """Return the processor's model, its instruction sets, and its clock in MHz."""
    first: dict[str, str] = {}
    for line in read_text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    model = first.get("model name", platform.processor() or platform.machine())
    if "cpu family" in first:
        model += " (family {}, model {})".format(first["cpu family"], first.get("model", "?"))
    flags = set((first.get("flags") or first.get("Features") or "").split())
    clock = float(first["cpu MHz"]) if "cpu MHz" in first else None
    return model, " ".join(name for name in INSTRUCTIONS if name in flags), clock


def describe_board():
    """Return the board as the device tree or Android names it; empty where nothing does."""
    board = read_text("/proc/device-tree/model")
    if not board and os.path.exists("/system/bin/getprop"):
        names = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model")
        board = " ".join(filter(None, (run_quietly(["/system/bin/getprop", n]) for n in names)))
    return board


def describe_power():
    """Return governor, highest clocks and power mode, as far as the system tells."""
    policies = sorted(glob.glob("/sys/devices/system/cpu/cpufreq/policy*"))
    governors = sorted({read_text(p + "/scaling_governor") for p in policies} - {""})
    clocks = sorted({int(read_text(p + "/scaling_max_freq") or 0) // 1000 for p in policies} - {0})
    facts = []
    if governors:
        facts.append("governor " + "/".join(governors))
    if clocks:
        facts.append("at most {} MHz".format("/".join(map(str, clocks))))
    modes = [line.split(":", 1)[1].strip() for line in run_quietly(["nvpmodel", "-q"]).splitlines()
             if line.startswith("NV Power Mode")]  # fmt: skip
    return ", ".join(facts + ["power mode " + mode for mode in modes])


def describe_gpu_power():
    """Return the graphics processor's clocks and power limit, as far as the system tells."""
    facts = []
    for path in sorted(glob.glob("/sys/class/devfreq/*")):  # of boards, e.g. 17000000.ga10b
        name, clock = os.path.basename(path), read_text(path + "/max_freq")
        if clock.isdigit() and any(own in name for own in GPUS):
            governor = read_text(path + "/governor")
            facts.append(f"GPU {governor} at most {int(clock) // 1000000} MHz")
    limits = query_nvidia("power.limit,clocks.max.sm")
    if limits and "n/a" not in limits.lower():
        facts.append("GPU " + limits)
    return ", ".join(facts)


def query_nvidia(fields):
    """Ask nvidia-smi of the first GPU; empty where it is missing or does not know."""
    said = run_quietly(["nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader"])
    return said.splitlines()[0].strip() if said else ""


def read_temperature():
    """Return the hottest thermal zone's degrees Celsius; ``None`` where there is none."""
    found = []
    for path in glob.glob("/sys/class/thermal/thermal_zone*/temp"):
        try:
            found.append(int(read_text(path)) / 1000.0)
        except ValueError:
            continue
    found = [degrees for degrees in found if 0 < degrees < 150]
    return max(found) if found else None


def is_throttled():
    """Tell whether the system shows that clocks are held down: heat, or a board's own flag."""
    said = run_quietly(["vcgencmd", "get_throttled"])  # Raspberry Pi: the low bits are of now
    if said.startswith("throttled=0x") and int(said[12:], 16) & 0xE:
        return True
    reasons = query_nvidia("clocks_throttle_reasons.active")
    if reasons.startswith("0x") and int(reasons, 16) & NVIDIA_HELD:
        return True
    degrees = read_temperature()
    return degrees is not None and degrees >= 75


def run_quietly(command):
    """Run a command; return what it says, or nothing where it is missing or fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def describe_cpu(engine, version, setting, options=""):
    """Return the device's fields for an engine on the processor."""
    model, instructions, clock = describe_processor()
    return {
        "processor": model, "instructions": instructions, "cores": count_cores(),
        "system": f"{platform.system()} {platform.machine()}", "engine": engine,
        "engine_version": version, "threads": setting["threads"],
        "precision": setting["precision"], "batch": setting["batch"], "driver": "",
        "options": options, "board": describe_board(), "power": describe_power(),
        "clock_mhz": clock, "host": platform.node(),
    }  # fmt: skip


def same_device(one, other):
    """Return the names of the fields in which two descriptions differ."""
    loose = ("clock_mhz", "host")
    return [
        k for k in sorted(set(one) | set(other)) if k not in loose and one.get(k) != other.get(k)
    ]
