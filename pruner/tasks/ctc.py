"""Connectionist temporal classification (Graves et al. 2006), with derivatives of any order.

torch's own has no second derivative, which criteria of second order need.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_NEVER = -1e5
"""Logarithm of a probability of nothing; infinity would have no derivative."""


def ctc_losses(scores: Tensor, tokens: Sequence[Tensor], blank: int) -> Tensor:
    """Return -log P(tokens | scores) of every line, in nats, float [n].

    The forward algorithm in logarithms. A text that needs more steps than there are is nearly
    impossible: its loss is large, and finite.

    Args:
        scores: [n, steps, tokens and blank], before the softmax.
        tokens: Of every line, int64 [k], without blanks.
        blank: The number of the blank.
    """
    logs = scores.log_softmax(2)
    count, steps, _ = logs.shape
    longest = max((len(one) for one in tokens), default=0)
    states = torch.full((count, 2 * longest + 1), blank, device=logs.device)
    for row, one in enumerate(tokens):
        states[row, 1 : 2 * len(one) : 2] = one
    lengths = torch.tensor([2 * len(one) + 1 for one in tokens], device=logs.device)
    # A step may jump over a blank between two different tokens.
    jumps = torch.zeros_like(states, dtype=torch.bool)
    jumps[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    emitted = logs.gather(2, states[:, None].expand(-1, steps, -1))  # [n, steps, states]
    never = torch.full_like(emitted[:, 0], _NEVER)
    first = torch.arange(states.shape[1], device=logs.device) < 2
    alpha = torch.where(first, emitted[:, 0], never)
    for step in range(1, steps):
        one = torch.cat([never[:, :1], alpha[:, :-1]], 1)
        two = torch.cat([never[:, :2], alpha[:, :-2]], 1)[:, : alpha.shape[1]]
        two = torch.where(jumps, two, never)
        alpha = torch.logsumexp(torch.stack([alpha, one, two]), 0) + emitted[:, step]
    last = alpha.gather(1, lengths[:, None] - 1)[:, 0]
    before = alpha.gather(1, (lengths[:, None] - 2).clamp_min(0))[:, 0]
    return -torch.where(lengths > 1, torch.logaddexp(last, before), last)


def find_best_path(scores: Tensor, blank: int) -> list[list[int]]:
    """Return the tokens of the likeliest path of every line: repeats joined, blanks left out."""
    found = []
    for path in scores.argmax(2).tolist():
        before = [blank, *path]
        found.append([k for k, last in zip(path, before) if k != last and k != blank])
    return found


def count_steps(tokens: Tensor) -> int:
    """Return the least number of steps that tokens need: a blank between two that are equal."""
    return len(tokens) + int((tokens[1:] == tokens[:-1]).sum())
