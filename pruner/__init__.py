"""Latency-aware pruning: trace a network, score it, formulate, apply the answer, tune.

net     = pruner.trace(model, (x,))
table   = latency_tables.measure(net, latency_tables.engine("onnxruntime"))
scores  = pruner.score(net, batches, loss)
problem = pruner.formulate(net, table, scores, budget="50%")
answer  = solver.solve(problem)
plan    = pruner.Plan.from_solution(net, answer, scores)
small   = pruner.apply(net, plan)
"""

from .apply import apply
from .errors import PlanError, PrunerError, TraceError
from .formulate import formulate, predict
from .importance import Importance, score
from .network import Block, Dim, Frozen, Network, Slot
from .part import splice
from .plan import Plan
from .repair import repair
from .rotate import rotate
from .store import load, save
from .trace import trace
from .trials import tried
from .verify import verify

__all__ = [
    "Block", "Dim", "Frozen", "Importance", "Network", "Plan", "PlanError", "PrunerError", "Slot",
    "TraceError", "apply", "formulate", "load", "predict", "repair", "rotate", "save", "score",
    "splice", "trace", "tried", "verify",
]  # fmt: skip
