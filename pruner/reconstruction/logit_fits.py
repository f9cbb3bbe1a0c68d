"""LogitFit: queries and keys of fewer channels whose products come nearest the dense network's.

Per head, with the dense network's queries Q and keys K over the tokens of all samples, what the cut
network's projections can still give of them, Q^ = X W_q and K^ = X W_k (least squares on its own
inputs X), and r channels left:

    min over S, T [width, r] of mean |Q K^T - Q^ S (K^ T)^T|^2

over pairs of tokens, queries and keys taken as independent of each other. With A = E Q^^T Q^ and
B = E K^^T K^ (K^ about its mean in a sample, since a softmax over the keys does not see what all of
them share), the best are the first r eigenvectors V of B^1/2 A B^1/2, of values s^2 (Eckart and
Young 1936; reduced-rank regression, Izenman 1975):

    T = B^-1/2 V s^1/2,   S = B^1/2 V s^-1/2

Where a key head serves several query heads, A is the sum over these. The products of all pairs of
tokens in the samples are then compared, and a head whose products are no nearer stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import StagedExecution
from .covariance_roots import find_roots
from .cut_axes import CutAxes
from .linear_reads import LinearRead
from .operand_sides import OperandRows, OperandSide, OperandSums, Weights
from .product_operands import OperandProduct
from .ridge import RidgeFit


@dataclass(frozen=True)
class LogitTask:
    """A product of the cut network that sums along a cut width.

    Attributes:
        product: In the cut network.
        twin: In the dense network.
    """

    product: OperandProduct
    twin: OperandProduct

    @property
    def reads(self) -> tuple[LinearRead, LinearRead]:
        """What writes queries and keys."""
        return self.product.query.read, self.product.key.read

    @property
    def name(self) -> str:
        """Of the first operator whose inputs are looked at."""
        return self.product.query.read.node.name


class LogitFit:
    """A task with the axes that a plan keeps."""

    def __init__(self, task: LogitTask, axes: CutAxes) -> None:
        """Take a task."""
        self.task = task
        product, twin = task.product, task.twin
        self.sides = (
            OperandSide(product.query, twin.query, axes, False),
            OperandSide(product.key, twin.key, axes, product.centred),
        )

    @torch.no_grad()
    def run(
        self, cut: StagedExecution, dense: StagedExecution, spatial_samples: int, before: str
    ) -> bool:
        """Refit queries and keys; return whether any head's products came nearer.

        Args:
            cut: The cut network.
            dense: The dense one.
            spatial_samples: Tokens of a sample that are looked at.
            before: The node that both executions may move to.
        """
        sums: list[OperandSums | None] = [None, None]
        for rows in self._sample(cut, dense, spatial_samples, before):
            if rows is None:
                return False
            for i, (side, one) in enumerate(zip(self.sides, rows)):
                held = sums[i] or OperandSums(one)
                held.add(one, side.centred)
                sums[i] = held
        query, key = sums
        if query is None or key is None:
            return False
        serves = key.where.head[query.where.runs[0]]  # the key head of every query head
        new = _reduce_rank(
            [side.fit(held) for side, held in zip(self.sides, (query, key))],
            query,
            key,
            serves,
            self.sides[1].centred,
        )
        old = [side.read_weights(held.where) for side, held in zip(self.sides, (query, key))]
        if not all(bool(torch.isfinite(part).all()) for pair in new for part in pair):
            return False
        errors = torch.zeros(2, len(query.where.channels), dtype=torch.float64)
        for rows in self._sample(cut, dense, spatial_samples, before):
            assert rows is not None
            for k, weights in enumerate((old, new)):
                errors[k] += self._measure_errors(rows, weights, serves).cpu()
        better = torch.zeros(2, len(key.where.channels), dtype=torch.float64)
        better.index_add_(1, serves.cpu(), errors)
        taken = better[1] < better[0]
        for side, fitted, held, chosen in zip(
            self.sides, new, (query, key), (taken[serves.cpu()], taken), strict=True
        ):
            side.write(fitted, held.where, chosen)
        return bool(taken.any())

    def _sample(
        self, cut: StagedExecution, dense: StagedExecution, count: int, before: str
    ) -> Iterator[tuple[OperandRows, OperandRows] | None]:
        """Yield what both sides read and are to give by batches; None where it is not plain."""
        ours = {name for side in self.sides for name in side.needs}
        theirs = {name for side in self.sides for name in side.targets}
        both = zip(cut.values(ours, before), dense.values(theirs, before), strict=True)
        for k, (found, goal) in enumerate(both):
            query, key = (side.sample(found, goal, count, k) for side in self.sides)
            if query is None or key is None:
                yield None
                return
            same = torch.equal(query.where.part, key.where.part)
            heads = key.where.head[query.where.runs]
            if not same or not (heads == heads[:1]).all():
                yield None
                return
            yield query, key

    def _measure_errors(
        self, rows: tuple[OperandRows, OperandRows], weights: Sequence[Weights], serves: Tensor
    ) -> Tensor:
        """Return the squared error of all products, of every query head: [heads] double."""
        (query, key), (wq, wk) = rows, weights
        errors = []
        for head, other in enumerate(serves.tolist()):
            ours = (query.x @ wq[0][head].to(query.x) + wq[1][head].to(query.x)) @ (
                key.x @ wk[0][other].to(key.x) + wk[1][other].to(key.x)
            ).mT
            rest = ours - query.y[:, :, head] @ key.y[:, :, other].mT
            if self.sides[1].centred:
                rest = rest - rest.mean(-1, keepdim=True)
            errors.append(rest.double().square().sum())
        return torch.stack(errors)


def _reduce_rank(
    fits: list[RidgeFit], query: OperandSums, key: OperandSums, serves: Tensor, centred: bool
) -> tuple[Weights, Weights]:
    """Return the weights of queries and keys whose products are nearest, of fewer channels."""
    heads = [len(held.where.channels) for held in (query, key)]
    width = query.where.channels.shape[1]
    parts = []
    for fit, held, count in zip(fits, (query, key), heads):
        total = held.train + held.held_out
        weight = fit.weight[0].unflatten(1, (count, -1)).transpose(0, 1)  # [heads, inputs, width]
        bias = fit.bias[0].view(count, -1)
        xx, x = total.xx[0] / total.rows, total.x[0] / total.rows
        mean = x @ weight  # [heads, width], without the bias
        gram = weight.mT @ xx @ weight + _outer(mean, bias) + _outer(bias, mean)
        parts.append((weight, bias, gram + _outer(bias, bias)))
    (wq, bq, first), (wk, bk, second) = parts
    shared = torch.zeros_like(second).index_add_(0, serves.to(first.device), first)
    root, other, _ = find_roots(second)
    power, turned = torch.linalg.eigh(root @ shared @ root)
    power, turned = power.flip(-1)[:, :width].clamp_min(0), turned.flip(-1)[..., :width]
    scale = power.sqrt().sqrt()  # of singular values, the square roots
    tiny = scale < 1e-6 * scale.amax(-1, keepdim=True).clamp_min(1e-30)
    back = torch.where(tiny, 0.0, 1 / scale.masked_fill(tiny, 1.0))
    into_key, into_query = other @ turned * scale[:, None], root @ turned * back[:, None]
    into_query = into_query[serves.to(into_query.device)]
    if centred:  # what is added to all keys is of no consequence to a softmax
        mean_x, mean_y = key.x.double() / key.rows, (key.y.double() / key.rows).view(heads[1], -1)
        bk = mean_y.to(wk) - mean_x.to(wk) @ wk
    new_query = (wq @ into_query, (bq[:, None] @ into_query)[:, 0])
    return new_query, (wk @ into_key, (bk[:, None] @ into_key)[:, 0])


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]
