"""Which engines can be made here, and what the others lack."""

from dataclasses import dataclass

from ..errors import LatencyError
from .registry import engine, engine_names


@dataclass(frozen=True)
class EngineAvailability:
    """An engine on this machine.

    Attributes:
        version: Of its library; empty where it cannot be made.
        missing: Why not, and what to install; empty where it can.
    """

    name: str
    version: str = ""
    missing: str = ""


def list_engines() -> tuple[EngineAvailability, ...]:
    """Make every engine that is known, with one thread in fp32, and say what came of it."""
    return tuple(map(_try_engine, engine_names()))


def _try_engine(name: str) -> EngineAvailability:
    try:
        return EngineAvailability(name, engine(name).version)
    except LatencyError as error:
        return EngineAvailability(name, missing=" ".join(str(error).split()))
    except Exception as error:  # a library that is there and cannot be loaded raises what it likes
        text = " ".join(str(error).split())
        return EngineAvailability(
            name, missing=f"its library fails: {type(error).__name__}: {text}"
        )
