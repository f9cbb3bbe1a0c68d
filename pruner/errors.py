"""The package's one error family."""

from __future__ import annotations


class PrunerError(Exception):
    """Something that the user gave cannot be used.

    The message names what was given, what was expected and what to do, on one line; the command
    line prints it as it stands and ends with exit code 2.
    """


class TraceError(PrunerError):
    """The network, or the part of it that was given, cannot be read into a graph."""


class PlanError(PrunerError):
    """A plan does not fit the network that it is applied to."""


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
