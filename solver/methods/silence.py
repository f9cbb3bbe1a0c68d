"""Silence for Pyomo and HiGHS, which write to the terminal what the solution says anyway."""

import logging
import os
import sys
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


@contextmanager
def silence_stdout() -> Iterator[None]:
    """Discard what a library writes to the process's standard output for a moment."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)
