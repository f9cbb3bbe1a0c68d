"""Recognition: CTC against torch's own, in value, gradient and curvature; texts and errors."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.nn.functional import ctc_loss

from pruner.errors import PrunerError
from pruner.tasks import Recognition
from pruner.tasks.ctc import count_steps, ctc_losses, find_best_path

LINES = ([1, 2, 3], [2, 2], [], [4, 4, 4, 1])


def draw(steps: int = 9) -> tuple[torch.Tensor, list[torch.Tensor]]:
    rng = torch.Generator().manual_seed(3)
    scores = torch.randn(len(LINES), steps, 5, generator=rng, dtype=torch.float64)
    return scores, [torch.tensor(line, dtype=torch.int64) for line in LINES]


@pytest.mark.parametrize("blank", [0, 4])
def test_losses_and_gradients_are_torchs(blank: int) -> None:
    scores, tokens = draw()
    tokens = [one - blank // 4 for one in tokens]
    found = []
    for own in (True, False):
        x = scores.clone().requires_grad_()
        if own:
            losses = ctc_losses(x, tokens, blank)
        else:
            losses = ctc_loss(
                x.log_softmax(2).transpose(0, 1), torch.cat(tokens), torch.full((4,), 9),
                torch.tensor([len(one) for one in tokens]), blank, reduction="none",
            )  # fmt: skip
        losses.sum().backward()
        found.append((losses.detach(), x.grad))
    torch.testing.assert_close(found[0], found[1])


def test_it_has_a_second_derivative_and_no_infinity() -> None:
    scores, tokens = draw(5)
    x = scores[:2].clone().requires_grad_()
    assert gradgradcheck(lambda v: ctc_losses(v, tokens[:2], 0), (x,))
    short = scores[3:, :4].clone().requires_grad_()  # six steps are needed, there are four
    (gradient,) = torch.autograd.grad(ctc_losses(short, tokens[3:], 0).sum(), short)
    assert gradient.isfinite().all() and count_steps(tokens[3]) == 6


def test_the_best_path_is_read_and_judged() -> None:
    path = torch.tensor([[1, 1, 0, 1, 2, 2], [0, 3, 3, 3, 0, 0]])
    scores = torch.nn.functional.one_hot(path, 5).double()
    assert find_best_path(scores, 0) == [[1, 1, 2], [3]]
    task = Recognition(alphabet="aBcd", metric="both")
    metric = task.metric()
    metric.update(scores, [{"text": "aaB"}, {"text": "d"}])
    values = {kind.key: value for kind, value in metric.compute_all().items()}
    assert values == {"word_accuracy": 0.5, "character_error_rate": pytest.approx(1 / 4)}
    small = Recognition(alphabet="aBcd", ignore_case=True).metric()
    with pytest.raises(PrunerError, match="'b' is not in the alphabet"):
        small.update(scores, ["aab", "c"])
    small.update(scores, ["aaB", "c"])
    assert small.compute() == 1
    last = Recognition(alphabet="aBcd", blank_last=True)
    moved = torch.nn.functional.one_hot((path - 1) % 5, 5).double()
    assert last._list_texts(moved, ["aaB", "c"])[0] == ["aaB", "c"]
    steps = Recognition(steps_first=True).read(scores.transpose(0, 1))
    assert torch.equal(steps, scores)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["ab"], "1 texts do not fit scores"),
        ([torch.tensor([5]), torch.tensor([1])], "tokens .5. do not fit"),
        ([torch.tensor([0]), torch.tensor([1])], "0 is CTC's blank"),
        (["aaaa", "a"], "a text of 4 characters needs 7 steps"),
        ([3, 4], "a line's target is int"),
    ],
)
def test_targets_that_do_not_fit_are_said(targets, words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        Recognition(alphabet="abcd").check(torch.zeros(2, 6, 5), targets)
