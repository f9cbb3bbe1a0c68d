"""The package's errors: one family, so that a command line can turn any of them into one line."""


class LatencyError(Exception):
    """Something that the user can put right; the message says what was found and what to do."""


class UnknownEngineError(LatencyError):
    """No engine of that name, or its library is not installed."""


class EngineError(LatencyError):
    """The engine was asked for what it cannot do, or it refused a network."""


class MissingSpecError(LatencyError, KeyError):
    """The table holds no samples of a layer specification."""

    def __str__(self) -> str:  # a KeyError would print the message in quotes
        return str(self.args[0]) if self.args else ""


class DeviceMismatchError(LatencyError):
    """Samples of two devices, or of two settings, were about to be mixed."""


class DamagedTableError(LatencyError):
    """A table's file is cut, edited, or of another version."""
