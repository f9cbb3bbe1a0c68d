"""Latency-aware pruning: trace a network, score it, formulate, apply the answer, tune.

net     = pruner.trace(model, (x,))
table   = latency_tables.measure(net, latency_tables.engine("onnxruntime"))
scores  = pruner.score(net, batches, loss)
problem = pruner.formulate(net, table, scores, budget="50%")
answer  = solver.solve(problem)
plan    = pruner.Plan.from_solution(net, answer, scores)
small   = pruner.apply(net, plan)
"""

from .errors import PlanError, PrunerError, TraceError
from .graph import Block
from .importance import score
from .models import load_model, register_when_imported, splice
from .moved import install
from .problem import formulate, predict
from .reconstruction import repair
from .run import export, load
from .search import evaluate_candidates
from .structure import Dim, Frozen, Importance, Network, Plan, Slot, trace
from .surgery import apply, rotate, save, verify
from .tasks import Task, make_task

__all__ = [
    "Block", "Dim", "Frozen", "Importance", "Network", "Plan", "PlanError", "PrunerError", "Slot",
    "Task", "TraceError", "apply", "evaluate_candidates", "export", "formulate", "load",
    "load_model", "make_task", "predict", "repair", "rotate", "save", "score", "splice", "trace",
    "tried", "verify",
]  # fmt: skip

tried = evaluate_candidates
"""The former name of `evaluate_candidates`."""

install()
register_when_imported()
