"""The package's one error family, and its warning."""


class PrunerError(Exception):
    """Something that the user gave cannot be used.

    The message names what was given, what was expected and what to do, on one line; the command
    line prints it as it stands and ends with exit code 2.
    """


class TraceError(PrunerError):
    """The network, or the part of it that was given, cannot be read into a graph."""


class PlanError(PrunerError):
    """A plan does not fit the network that it is applied to."""


class PrunerWarning(UserWarning):
    """Something was done in another way than one may expect, or left out; the message says what."""


def first_line(error: BaseException, with_kind: bool = True) -> str:
    """Return the first line of an error's message, after its class; of an empty one the class."""
    text, kind = str(error).strip().splitlines(), type(error).__name__
    return kind if not text else f"{kind}: {text[0]}" if with_kind else text[0]
