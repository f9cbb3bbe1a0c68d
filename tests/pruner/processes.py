"""How processes that a test starts end."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Barrier


def leave_gloo(all_done: Barrier) -> None:
    """End this process, which has nothing left to do, once the others have got as far.

    An orderly end stops gloo's threads, which at times aborts a process (``terminate called
    without an active exception``), and an end before the others' fails what they still wait for.
    """
    all_done.wait(timeout=300)
    os._exit(0)
