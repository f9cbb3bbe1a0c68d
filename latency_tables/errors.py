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


class DamagedBundleError(LatencyError):
    """A bundle, or a result in it, is cut, edited, or of another device than the rest."""


class UnfinishedError(LatencyError):
    """What was asked for is still to be measured over there; the message says what to run."""


class CarrierError(LatencyError):
    """A device elsewhere cannot be reached, or what was run there failed."""


class DamagedTableError(LatencyError):
    """A table's file is cut, edited, or of another version."""
