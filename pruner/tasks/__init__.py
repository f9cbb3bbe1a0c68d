"""What networks are for: a Task says how outputs are judged, with labels and without, and on what.

Scores, repair, trials, distillation, evaluation and the report ask it and know nothing of labels
themselves. A new task is one file here and one line in the registry.
"""

from .base import Call, Replay, Task, TaskModule, copy_tensors, record_calls, to_call
from .calls import NetworkCalls
from .class_scores import extract_scores
from .classification import ACCURACY, Classification
from .custom import make_task
from .depth import Depth
from .detection import Detection
from .divergence import compare_outputs, compare_scores, compare_values
from .embedding import Embedding
from .guarded import GuardedTask, explain_failure
from .metric import (
    CollectedMetric,
    DivergenceMetric,
    GroupMetric,
    LibraryMetric,
    MeanMetric,
    Metric,
    MetricKind,
    RootMeanMetric,
)
from .mixup import draw_mixture
from .multilabel import Multilabel
from .recognition import Recognition
from .registry import DEFAULT, TASKS, describe_choice, open_task
from .request import TaskRequest
from .retrieval import Retrieval
from .segmentation import Segmentation
from .several import Several
from .total import Total
from .wrapped import WrappedTask

__all__ = [
    "ACCURACY", "Call", "Classification", "CollectedMetric", "DEFAULT", "Depth", "Detection",
    "DivergenceMetric", "Embedding", "GroupMetric", "GuardedTask", "LibraryMetric", "MeanMetric",
    "Metric", "MetricKind", "Multilabel", "NetworkCalls", "Recognition", "Replay", "Retrieval",
    "RootMeanMetric", "Segmentation", "Several", "TASKS", "Task", "TaskModule", "TaskRequest",
    "Total", "WrappedTask", "compare_outputs", "compare_scores", "compare_values", "copy_tensors",
    "describe_choice", "draw_mixture", "explain_failure", "extract_scores", "make_task",
    "open_task", "record_calls", "to_call",
]  # fmt: skip
