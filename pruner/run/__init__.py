"""The verbs: configuration in, a RUN folder out, every step resumed from what that holds."""

from .cli import main
from .commands import bench, demo, inspect, report, run
from .config import Config, FinetuneConfig, MeasureConfig, RoundsConfig, ScoreConfig
from .console_summary import Outcome
from .context import Workspace
from .export_stage import export
from .finetune_stage import finetune
from .frontier_stage import frontier
from .loading import load
from .measure_stage import measure
from .run_folder import METRICS, RunFolder
from .solve_stage import solve
from .tuning_stage import FewerImages

__all__ = [
    "Config", "FewerImages", "FinetuneConfig", "METRICS", "MeasureConfig", "Outcome",
    "RoundsConfig", "RunFolder", "ScoreConfig", "Workspace", "bench", "demo", "export", "finetune",
    "frontier", "inspect", "load", "main", "measure", "report", "run", "solve",
]  # fmt: skip
