"""Records of interrupts, since their exception can be lost in a library or a destructor."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def record_interrupts() -> Iterator[list[int]]:
    """Append every SIGINT to the list that is yielded, and pass it on to the handler in place.

    Signals reach the main thread alone: elsewhere the list stays empty. At the end it is emptied.
    """
    seen: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # A handler that cannot be called: SIGINT is ignored, or handled outside of Python.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield seen
        return

    def record(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        handler(number, frame)

    signal.signal(signal.SIGINT, record)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, handler)
        seen.clear()
