"""The commands: configuration in, a RUN folder out, every step resumed from what that holds."""

from .cli import main
from .finetune_stage import FewerImages
from .run_folder import METRICS, RunFolder

__all__ = [
    "FewerImages", "METRICS", "RunFolder", "main",
]  # fmt: skip
