"""What a long solve says while it runs."""

import math

from solver import SolveProgress


def describe_progress(message: SolveProgress) -> str:
    """Say in a few words what the solver is doing, what it holds, and what is possible at most."""
    value, bound = message.value, message.bound
    held = f"best {value:.6g}" if math.isfinite(value) else "no structure yet"
    if not math.isfinite(bound):
        return f"{message.stage}: {held}"
    gap = ""
    if math.isfinite(value) and value != bound:
        gap = f" (gap {(bound - value) / max(abs(bound), abs(value)):.2g})"
    return f"{message.stage}: {held}, at most {bound:.6g}{gap}"
