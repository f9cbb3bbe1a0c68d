"""The configuration of ``msprune demo``."""

from __future__ import annotations

from pathlib import Path

from .config import Config


def configuration(out: Path, data: Path) -> Config:
    """The demo's run: 70% of the dense latency, and as much tuning as a minute allows."""
    return Config.from_dict(
        {
            "model": "demo:resnet20",
            "out": str(out),
            "data": str(data),
            "budgets": ["70%"],
            "measure": {"quick": True, "probes": 14},
            "solve": {"attempts": 3},
            "score": {"criterion": "measured", "images": 512},
            "finetune": {"repair": 128, "epochs": 5, "batch": 64, "recalibrate": 1024},
        }
    )
