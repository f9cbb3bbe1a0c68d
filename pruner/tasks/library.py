"""The torchmetrics library, which some metrics need."""

from types import ModuleType

from ..errors import PrunerError, first_line


def load_torchmetrics() -> ModuleType:
    """Import torchmetrics; PrunerError where it is not installed."""
    try:
        import torchmetrics
    except ImportError as error:
        raise PrunerError(
            f'this metric needs torchmetrics: pip install "msprune[tasks]" ({first_line(error)})'
        ) from error
    return torchmetrics
