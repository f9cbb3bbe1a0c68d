"""Silence for Pyomo, which writes to the terminal what the solution says anyway."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_logger(name: str, level: int = logging.ERROR) -> Iterator[None]:
    """Let only messages of at least ``level`` through the logger ``name`` for a while."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
