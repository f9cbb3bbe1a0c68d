"""Which of several processes this one is, where `accelerate launch` started them."""

import os

from ..errors import PrunerError


def process_rank() -> int:
    """Return this process's number: 0 for the first, and for the only one."""
    return int(os.environ.get("RANK", "0"))


def require_single_process(verb: str) -> None:
    """Raise PrunerError where several processes run a command that works in one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise PrunerError(
            f"msprune {verb} works in one process, and accelerate started {count}: use "
            "accelerate launch for msprune finetune alone"
        )


def leave_process_group() -> None:
    """Leave the others in order: a process that just ends may abort while another still waits."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
