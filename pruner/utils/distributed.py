"""Which of several processes this one is, where `accelerate launch` started them."""

from __future__ import annotations

import os

from ..errors import PrunerError


def process_rank() -> int:
    """0 for the first process, and for the only one."""
    return int(os.environ.get("RANK", "0"))


def require_single_process(verb: str) -> None:
    """Raise PrunerError for what several processes cannot do together."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise PrunerError(
            f"msprune {verb} works in one process, and accelerate started {count}: use "
            "accelerate launch for msprune finetune alone"
        )


def leave_process_group() -> None:
    """Take leave of the others: a process that just ends may abort while another still waits."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
