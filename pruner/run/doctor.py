"""The verb doctor: what is here, what is missing, and what installs it."""

from collections.abc import Iterator
from dataclasses import asdict

from .console_summary import Outcome
from .diagnosis import Diagnosis, diagnose


def doctor() -> Outcome:
    """Say what msprune finds on this machine. Writes nothing, measures nothing."""
    found = diagnose()
    data = asdict(found)
    for extra, plain in zip(found.extras, data["extras"], strict=True):
        plain |= {"missing": extra.missing, "install": extra.install}
    return Outcome("\n".join(render_diagnosis(found)), data)


def render_diagnosis(found: Diagnosis) -> Iterator[str]:
    """Yield a diagnosis as lines."""
    yield f"msprune {found.version or '(a checkout, not installed)'}, Python {found.machine.python}"
    yield from _render_machine(found)
    yield from _render_gpu(found)
    yield "engines"
    for engine in found.engines:
        said = f"missing: {engine.missing}" if engine.missing else engine.version
        yield f"  {engine.name}: {said}"
    packages = [f"{one.name} {one.version}" for one in found.needed if one.version is not None]
    yield f"packages: {', '.join(packages)}"
    lost = [one.name for one in found.needed if one.version is None]
    if lost:
        yield f"  missing: {', '.join(lost)}: pip install {' '.join(lost)}"
    yield "extras"
    for extra in found.extras:
        here = [f"{one.name} {one.version}" for one in extra.packages if one.version is not None]
        if extra.missing:
            said = f"without {', '.join(extra.missing)}: {extra.install}"
        else:
            said = ", ".join(here)
        yield f"  {extra.name} ({extra.purpose}): {said}"
    yield "before measuring" if found.advice else "ready to measure"
    yield from (f"  {line}" for line in found.advice)


def _render_machine(found: Diagnosis) -> Iterator[str]:
    machine = found.machine
    board = f"{machine.board}: " if machine.board else ""
    yield f"machine: {board}{machine.processor}, {machine.system}"
    if machine.instructions:
        yield f"  instructions: {machine.instructions}"
    quota = f", {machine.cpu_quota:g} cores' worth of time" if machine.cpu_quota else ""
    threads = f"torch computes with {found.torch_threads}"
    yield f"  cores: {machine.cores} of {machine.all_cores}{quota}; {threads}"
    clock = f"now {machine.clock_mhz:.0f} MHz" if machine.clock_mhz else ""
    facts = ", ".join(filter(None, (clock, machine.power)))
    yield f"  clocks: {facts or 'the system says nothing of clocks and governor'}"
    if machine.temperature is not None:
        throttled = ", throttled" if machine.throttled else ""
        yield f"  temperature: {machine.temperature:.0f} degrees{throttled}"
    load = f"; load {machine.load:.2f}" if machine.load is not None else ""
    total, free = machine.memory_bytes / 1e9, machine.free_bytes / 1e9
    yield f"  memory: {free:.1f} GB free of {total:.1f} GB{load}"
    for name, value in found.variables.items():
        yield f"  {name}={value}"


def _render_gpu(found: Diagnosis) -> Iterator[str]:
    gpu = found.gpu
    if gpu.missing:
        yield f"GPU: none: {gpu.missing}"
        return
    yield f"GPU: {gpu.name} ({gpu.capability}), driver {gpu.driver}"
    if gpu.state:
        yield f"  {gpu.state}"
