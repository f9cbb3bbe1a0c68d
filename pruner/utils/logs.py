"""Log records held back for a while."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def silence_logging() -> Iterator[None]:
    """Hold back all log records inside; what was disabled before is so again afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
