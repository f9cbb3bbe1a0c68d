"""Times sessions in turn until their medians are known, and shares profiles among cells."""

from .attribution import Share, attribute_profile, find_told_share
from .clock import Clock, Limits, Timing, average_timings, time_calls, time_in_turn, time_rounds
from .work import estimate_work

__all__ = [
    "Clock", "Limits", "Share", "Timing", "attribute_profile", "average_timings", "estimate_work",
    "find_told_share", "time_calls", "time_in_turn", "time_rounds",
]  # fmt: skip
