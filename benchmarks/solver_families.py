"""Random problems of the eight structural families on which the solver is raced.

Four structures (a chain of layers, residual streams with blocks that can be dropped, concatenations
with running sums, grouped layers whose widths go together), each with flat or uneven importance;
latencies are staircases, smooth, or bound by memory and launches; one to three budgets. Sizes are
drawn so that a problem has 10^4 to 10^5 table entries.
"""

from collections.abc import Callable

import numpy as np

import solver

SCORES = ("flat", "log-normal", "concave", "convex")
LATENCIES = ("staircase", "smooth", "memory")


class _Builder:
    """Collects options and tables; ``rng`` draws everything."""

    def __init__(self, rng: np.random.Generator, scores: str, latency: str) -> None:
        self.rng, self.scores, self.latency = rng, scores, latency
        self.options: dict[str, int] = {}
        self.tables: list[solver.Table] = []

    def draw_gain(self, widths: np.ndarray, weight: float) -> np.ndarray:
        """Return the importance [n] of keeping so many channels."""
        top = int(widths[-1])
        if self.scores == "flat":
            each = self.rng.normal(1.0, 0.01, top)
        elif self.scores == "log-normal":
            each = np.sort(self.rng.lognormal(0.0, 1.0, top))[::-1]
        elif self.scores == "concave":
            each = np.linspace(2.0, 0.0, top)
        else:
            each = np.linspace(0.5, 1.5, top)
        return np.round(weight * np.concatenate(([0.0], np.cumsum(each)))[widths], 6)

    def compute_ms(self, work: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return latency of so many multiply-adds and values moved."""
        if self.latency == "staircase":
            work = np.ceil(work / 2048.0) * 2048.0
        floor = 0.02 if self.latency == "memory" else 0.002
        rate = 2e-5 if self.latency == "memory" else 2e-6
        return np.round(np.maximum(work * 1e-6, moved * rate) + floor, 6)

    def add(
        self, scope: tuple[str, ...], ms: np.ndarray, gain: np.ndarray | float, gate: str = ""
    ) -> None:
        """Add a table; zero where ``gate`` is closed."""
        value = np.broadcast_to(gain, ms.shape)
        if gate:
            ms, value = np.stack([0 * ms, ms]), np.stack([0 * value, value])
            scope = (gate, *scope)
        odd = 0.3 + 1.4 * ((len(self.tables) * 0.618) % 1)
        cost = {"ms": ms, "other": np.round(ms**0.7 / 2, 6), "memory": np.round(ms * odd, 6)}
        self.tables.append(solver.Table(f"t{len(self.tables)}", scope, value, cost))

    def add_layer(
        self, out: tuple[str, np.ndarray], into: tuple[str, np.ndarray], gate: str = ""
    ) -> None:
        """Add a layer between two widths, with a gain for its own output."""
        (o, widths), (i, inputs) = out, into
        work = np.multiply.outer(widths, inputs) * 9.0
        moved = np.add.outer(widths, inputs) * 50.0
        gain = self.draw_gain(widths, float(self.rng.lognormal(0.0, 0.3)))
        self.add((o, i), self.compute_ms(work, moved), gain[:, None], gate)

    def add_width(self, name: str, count: int, step: int = 8) -> tuple[str, np.ndarray]:
        """Add a variable of ``count`` widths."""
        self.options[name] = count
        return name, np.arange(1, count + 1) * step


def build_chain(b: _Builder) -> None:
    """Layers in a row."""
    before = b.add_width("w0", 16)
    for k in range(int(b.rng.integers(15, 40))):
        now = b.add_width(f"w{k + 1}", int(b.rng.integers(16, 48)))
        b.add_layer(now, before)
        before = now


def build_streams(b: _Builder) -> None:
    """Residual streams, with blocks that can be dropped."""
    before = b.add_width("stem", 8)
    for s in range(int(b.rng.integers(1, 4))):
        stream = b.add_width(f"s{s}", int(b.rng.integers(12, 40)))
        b.add_layer(stream, before)
        for k in range(int(b.rng.integers(3, 9))):
            gate = f"s{s}b{k}.keep"
            b.options[gate] = 2
            inner = b.add_width(f"s{s}b{k}", int(b.rng.integers(16, 48)))
            b.add_layer(inner, stream, gate)
            b.add_layer(stream, inner, gate)
        before = stream


def build_concatenations(b: _Builder) -> None:
    """Dense blocks: running sums of widths, read by bottlenecks."""
    total = b.add_width("sum0", 4)
    for k in range(int(b.rng.integers(6, 12))):
        inner = b.add_width(f"inner{k}", int(b.rng.integers(8, 24)))
        grow = b.add_width(f"grow{k}", 6)
        wider = b.add_width(f"sum{k + 1}", len(total[1]) + 6)
        b.add_layer(inner, total)
        b.add_layer(grow, inner)
        fits = np.full((len(total[1]), 6, len(wider[1])), -np.inf)
        for i in range(len(total[1])):
            fits[i, np.arange(6), i + 1 + np.arange(6)] = 0.0
        b.tables.append(solver.Table(f"sum of {k}", (total[0], grow[0], wider[0]), fits))
        total = wider


def build_grouped(b: _Builder) -> None:
    """Attention-like blocks: heads, and widths per head, go together."""
    stream = b.add_width("embed", int(b.rng.integers(12, 24)), 16)
    for k in range(int(b.rng.integers(4, 10))):
        gate = f"b{k}.keep"
        b.options[gate] = 2
        heads, width = b.add_width(f"b{k}.heads", 6, 1), b.add_width(f"b{k}.width", 8)
        work = np.multiply.outer(np.multiply.outer(stream[1], heads[1]), width[1]) * 12.0
        gain = np.add.outer(b.draw_gain(heads[1], 16.0), b.draw_gain(width[1], 2.0))
        scope = (stream[0], heads[0], width[0])
        b.add(scope, b.compute_ms(work, work / 4), gain[None], gate)
        inner = b.add_width(f"b{k}.mlp", int(b.rng.integers(16, 64)))
        b.add_layer(inner, stream, gate)
        b.add_layer(stream, inner, gate)


STRUCTURES: dict[str, Callable[[_Builder], None]] = {
    "chain": build_chain,
    "streams": build_streams,
    "concatenations": build_concatenations,
    "grouped": build_grouped,
}


def build_family_problem(number: int) -> solver.Problem:
    """Build problem ``number`` of the race; structures, scores and latencies take turns."""
    rng = np.random.default_rng(number)
    structure = list(STRUCTURES)[number % 4]
    scores = SCORES[number // 4 % 4]
    latency = LATENCIES[number // 16 % 3]
    b = _Builder(rng, scores, latency)
    STRUCTURES[structure](b)
    resources = ("ms", "other", "memory")[: 1 + number % 3]
    dense = {r: sum(float(t.cost[r].max()) for t in b.tables if t.cost) for r in resources}
    share = rng.uniform(0.3, 0.7)
    budgets = {r: round(float(x * share * rng.uniform(0.95, 1.15)), 6) for r, x in dense.items()}
    name = f"family-{number}-{structure}-{scores}-{latency}-{len(resources)}"
    return solver.Problem(name, b.options, b.tables, budgets)
