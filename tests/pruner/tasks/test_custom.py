"""A user's own functions, one task in another's place, and what goes wrong with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pruner
from pruner.data import wrap_datasets
from pruner.errors import PrunerError
from pruner.tasks import Classification, MetricKind, Task, Total, compare_outputs
from pruner.tuning import Recipe, evaluate, finetune


class Lines(nn.Module):
    """Two lines through points, by keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, *, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.second(torch.relu(self.first(left) * right))
        return {"y": found[:, 0], "z": found[:, 1]}


def draw_lines(count: int, seed: int = 0) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 4, generator=rng)
    return [({"left": p, "right": p.new_ones(1)}, p[0] - p[1]) for p in points]


def off(outputs, targets) -> torch.Tensor:
    return (outputs["y"] - targets).abs()


def make(loss=True, data=None, **more) -> Task:
    def losses(outputs, targets):
        return {"y": (outputs["y"] - targets).square().mean(), "z": outputs["z"].square().mean()}

    return pruner.make_task(
        data=data or (draw_lines(64), draw_lines(16, 1)),
        loss=losses if loss else None,
        metric=(MetricKind("mean error", "m", higher_is_better=False), off),
        weights={"z": 0.1},
        name="lines",
        **more,
    )


def test_functions_make_a_task_that_every_step_takes() -> None:
    torch.manual_seed(0)
    task, model = make(), Lines().eval()
    before = evaluate(model, task.data.test(), task)
    history = finetune(
        model, None, None, 20, task=task,
        recipe=Recipe(batch=16, lr=0.02, distill=0.0, accumulate=2),
    )  # fmt: skip
    assert history.value < 0.5 * before.value and history.epochs[-1].value is not None
    assert history.metric.format(history.value).endswith(" m")
    inputs, targets = next(iter(task.data.test(4)))
    outputs = task.forward(model, inputs)
    expected = (outputs["y"] - targets).square().mean() + 0.1 * outputs["z"].square().mean()
    assert task.mean_loss(outputs, targets).item() == pytest.approx(expected.item())
    net = pruner.trace(model, (), {k: v[:1] for k, v in inputs.items()})
    batches = list(task.data.train(8, augment=False))
    for criterion in ("measured", "taylor", "taylor_sample", "hessian", "reconstruction"):
        scores = pruner.score(net, batches, None, criterion, task=task)
        assert all(scores.total(name).max() > 0 for name in net.dims), criterion
    (dim,) = net.dims.values()
    plan = pruner.Plan({dim.name: tuple(range(4))}, {}).refill(scores)
    small = pruner.apply(net, plan)
    cut = evaluate(small, task.data.test(), task)
    assert pruner.repair(small, net, plan, batches, task=task) == ("second",)
    assert evaluate(small, task.data.test(), task).value < cut.value
    assert make().fingerprint() == task.fingerprint() != make(data=draw_lines(3)).fingerprint()


def test_without_labels_a_task_compares() -> None:
    task = make(loss=False)
    with pytest.raises(PrunerError, match="'taylor'|no loss"):
        net = pruner.trace(Lines(), (), {"left": torch.zeros(1, 4), "right": torch.zeros(1, 1)})
        pruner.score(net, list(task.data.train(8)), None, "taylor", task=task)
    with pytest.raises(PrunerError, match="needs a teacher"):
        finetune(Lines(), None, None, 1, task=task)
    with pytest.raises(PrunerError, match="needs the dense network"):
        evaluate(Lines(), task.data.test(), Task())


def nan_metric(outputs, targets):
    return off(outputs, targets) * float("nan")


@pytest.mark.parametrize(
    ("more", "recipe", "words"),
    [
        ({"divergence": lambda a, b, t: (a["y"] - b["y"]).sum()}, {}, "expected a pruner.tasks.T"),
        ({"divergence": lambda a, b, t: Total(a["y"].sum() * float("nan"), 1)}, {}, "finite"),
        ({"divergence": lambda a, b, t: compare_outputs(a["y"], b, t)}, {}, "do not compare"),
        ({}, {"mixup": 0.2}, "mixup"),
        ({}, {"label_smoothing": 0.2}, "label_smoothing"),
    ],
)
def test_a_wrong_answer_is_one_line(more, recipe, words: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(PrunerError, match=words):
        finetune(Lines(), Lines(), None, 1, task=make(**more), recipe=Recipe(batch=8, **recipe))


def test_what_goes_wrong_with_data_is_one_line() -> None:
    lines = Lines()
    with pytest.raises(PrunerError, match="has no data"):
        finetune(lines, lines, None, 1, task=Task())
    with pytest.raises(PrunerError, match="no images"):
        evaluate(lines, [], make())
    empty = ({"left": torch.zeros(0, 4), "right": torch.zeros(0, 1)}, torch.zeros(0))
    with pytest.raises(PrunerError, match="batch 1 is empty"):
        evaluate(lines, [empty], make())
    net = pruner.trace(lines, (), {"left": torch.zeros(1, 4), "right": torch.zeros(1, 1)})
    with pytest.raises(PrunerError, match="batch 1 is empty"):
        pruner.score(net, [empty], None, "taylor", task=make())
    with pytest.raises(PrunerError, match="batch 2 is empty"):
        pruner.score(net, [next(iter(make().data.train(4))), empty], None, "measured", task=make())
    with pytest.raises(PrunerError, match="labels go from 0 to 5"):
        evaluate(nn.Linear(4, 3), [(torch.zeros(2, 4), torch.tensor([0, 5]))])
    bad = make(data=wrap_datasets((draw_lines(8), draw_lines(8))))
    bad.functions = {**bad.functions, "metric": (MetricKind("error"), nan_metric)}
    with pytest.raises(PrunerError, match="error is nan"):
        evaluate(lines, bad.data.test(), bad)


def test_a_task_of_classes_reads_what_hugging_face_returns() -> None:
    task = Classification()
    scores = torch.randn(3, 4)
    assert task.read({"logits": scores, "hidden": None}) is scores
    assert task.metric().kind.key == "accuracy" and task.fingerprint() == ""
