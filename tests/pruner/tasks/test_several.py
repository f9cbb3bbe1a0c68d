"""Several tasks over one network: outputs, losses, metrics, and data joined or in turn."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import pruner
from pruner.data import (
    Framing,
    Preprocessing,
    TurnsData,
    join_data,
    open_image_texts,
    open_label_sets,
    open_maps,
    open_masks,
    open_unlabelled,
    wrap_datasets,
)
from pruner.errors import PrunerError
from pruner.tasks import Depth, Detection, Embedding, GuardedTask, Segmentation, Several
from pruner.tuning import Recipe, evaluate, finetune

from ..every_task import TwoHeads, images, maps, write_dense
from ..segments import CLASSES, SIZE

HOW = Preprocessing((SIZE, SIZE))


def make(**more) -> Several:
    return Several({"seg": Segmentation(), "far": Depth(loss="l2", metric=("rmse",))}, **more)


def draw(count: int = 4) -> tuple[torch.Tensor, dict]:
    masks = torch.randint(0, CLASSES, (count, SIZE, SIZE), generator=torch.Generator())
    return images(count), {"seg": masks, "far": maps(count)}


@torch.no_grad()
def test_losses_are_weighted_and_of_what_a_batch_has() -> None:
    torch.manual_seed(0)
    model, task = TwoHeads().eval(), make(weights={"far": 0.25})
    inputs, targets = draw()
    outputs = task.forward(model, inputs)
    results = model(inputs)
    seg = Segmentation().mean_loss(Segmentation().read(results["seg"]), targets["seg"])
    far = Depth(loss="l2").mean_loss(results["far"], targets["far"])
    assert task.mean_loss(outputs, targets) == pytest.approx(float(seg + far / 4))
    assert task.total_loss(outputs, targets).mean == pytest.approx(float(seg + far / 4))
    alone = {"far": targets["far"]}
    assert task.mean_loss(outputs, alone) == pytest.approx(float(far / 4))
    assert task.take("seg").mean_loss(outputs, targets) == pytest.approx(float(seg))
    other = task.forward(TwoHeads().eval(), inputs)
    parts = [
        Segmentation().divergence(outputs["seg"], other["seg"]).mean,
        Depth().divergence(outputs["far"], other["far"]).mean,
    ]
    found = task.divergence(outputs, other)
    assert found.count == 4 and found.mean == pytest.approx(float(parts[0] + parts[1] / 4))
    metric = task.metric()
    metric.add(outputs, targets)
    assert [kind.key for kind in metric.kinds] == ["seg_mean_iou", "far_rmse"]
    second = make(main="far").metric()
    assert second.kind.key == "far_rmse" and second.running is None
    assert [*metric.compute_all().values()][0] == metric.compute()


def test_outputs_are_told_apart_by_name_and_place() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4)
    assert make().pick("far", {"seg": a, "far": b}) is b
    assert make().pick("far", (a, b)) is b and make(main="far").pick("far", (a, b)) is b
    assert make(outputs={"far": 0, "seg": "x"}).pick("far", (b, a)) is b
    whole = {"out": a, "other": b}
    assert make().pick("seg", whole) is whole
    for more, words in (
        ({"weights": {"fa": 1.0}}, "weights names no task: 'fa' .did you mean far"),
        ({"main": "x"}, "main names no task"),
        ({"outputs": {"x": 1}}, "they are seg, far"),
    ):
        with pytest.raises(PrunerError, match=words):
            make(**more)
    with pytest.raises(PrunerError, match="no tasks"):
        Several({})
    with pytest.raises(PrunerError, match="expected a dict by the tasks' names"):
        make().check({}, {"other": 1})
    with pytest.raises(PrunerError, match="task seg: masks hold"):
        make().check({"seg": {"out": a}}, {"seg": torch.full((2, 4, 4), 9)})


def test_a_task_without_labels_goes_along() -> None:
    torch.manual_seed(0)
    task = Several({"seg": Segmentation(), "vec": Embedding()}, outputs={"vec": "far"})
    model, other = TwoHeads().eval(), TwoHeads().eval()
    model.forward = lambda x, f=model.forward: (lambda y: {**y, "far": y["far"].flatten(1)})(f(x))
    other.forward = lambda x, f=other.forward: (lambda y: {**y, "far": y["far"].flatten(1)})(f(x))
    inputs, targets = draw(8)
    batches = [(inputs, {"seg": targets["seg"]})]
    found = evaluate(model, batches, task, dense=other)
    assert found.metric.key == "seg_mean_iou" and set(found.others) == {"vec_rank_correlation"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense")
    write_dense(path)
    return path


def test_targets_of_one_image_move_together(folder: Path) -> None:
    framing = Framing(scale=(0.3, 0.6))
    masks = open_masks(folder, HOW, framing=framing, workers=0)
    depth = open_maps(folder, HOW, framing=framing, scale=0.01, interpolation="nearest", workers=0)
    data = join_data({"seg": masks, "far": depth}, "both")
    for batch in data.train(8, augment=True):
        targets = batch[1]
        counted = targets["far"]["valid"][:, 0] & (targets["seg"] != 255)
        far = targets["far"]["map"][:, 0][counted]
        assert torch.equal(far > 1.5, targets["seg"][counted] > 0)
    before = random.Random(5)
    sample = data.training.read(3, before)
    assert torch.equal(sample[0], masks.training.read(3, random.Random(5))[0])
    other = open_maps(folder, HOW, framing=Framing("letterbox", flip=1.0), workers=0)
    with pytest.raises(PrunerError, match="read one image differently"):
        next(iter(join_data({"seg": masks, "far": other}, "both").train(4)))
    changed = join_data({"seg": masks, "far": other}, "both")
    assert data.fingerprint() != changed.fingerprint()


def test_labels_of_an_image_follow_any_framing(folder: Path, tmp_path: Path) -> None:
    lines = [f"images/{k}.png,{'even' if k % 2 == 0 else 'odd'}" for k in range(8)]
    for split in ("train", "val"):
        (folder / split / "labels.csv").write_text("\n".join(lines))
    labels = open_label_sets(folder, HOW, workers=0)
    data = join_data({"kind": labels, "seg": open_masks(folder, HOW, workers=0)}, "both")
    (for_all,) = [n for n in data.notes]
    assert "8 images of train lack the targets" in for_all
    inputs, targets = next(iter(data.test(8)))
    assert targets["kind"].sum(0).tolist() == [4, 4] and targets["seg"].shape == (8, SIZE, SIZE)


def test_an_image_of_several_readers_is_the_same(tmp_path: Path) -> None:
    """Whatever the order of their tables; what has no target of its own goes with any framing."""
    write_dense(tmp_path)
    for split in ("train", "val"):
        names = [f"images/{k}.png" for k in range(8)]
        labels = [f"{name},{'even' if k % 2 == 0 else 'odd'}" for k, name in enumerate(names)]
        texts = [f"{name},{'even' if k % 2 == 0 else 'odd'}" for k, name in enumerate(names)]
        (tmp_path / split / "tags.csv").write_text("\n".join(labels))
        (tmp_path / split / "captions.csv").write_text("\n".join(reversed(texts)))
    kinds = open_label_sets(tmp_path, HOW, workers=0)
    data = join_data({"kind": kinds, "text": open_image_texts(tmp_path, HOW, workers=0)}, "both")
    _, targets = next(iter(data.test(8)))
    assert [kinds.classes[int(k)] for k in targets["kind"].argmax(1)] == targets["text"]["text"]
    masks, alone = open_masks(tmp_path, HOW, workers=0), open_unlabelled(tmp_path, HOW, workers=0)
    inputs, targets = next(iter(join_data({"vec": alone, "seg": masks}, "both").train(8, seed=1)))
    assert inputs.shape == (8, 3, SIZE, SIZE) and targets["seg"].shape == (8, SIZE, SIZE)


def test_order_main_task_and_settings_of_ones_own_tell_tasks_apart() -> None:
    class Own(Segmentation):
        name = "own"

        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def settings(self):
            return {"count": self.count}

    def several(*names: str, count: int = 1, **more) -> Several:
        tasks = {"a": GuardedTask(Own(count)), "b": Depth()}
        return Several({name: tasks[name] for name in names}, **more)

    made = [several("a", "b"), several("b", "a"), several("a", "b", main="b"),
            several("a", "b", count=2)]  # fmt: skip
    assert len({task.fingerprint() for task in made}) == 4
    assert several("a", "b").fingerprint() == several("a", "b", main="a").fingerprint()
    results = (torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4))
    assert made[0].take("b").pick("b", results) is results[1]


def test_a_record_of_any_class_and_a_detector_are_told() -> None:
    @dataclass
    class Answer:
        seg: torch.Tensor
        far: torch.Tensor

    answer = Answer(torch.zeros(2, CLASSES, 4, 4), torch.ones(2, 1, 4, 4))
    assert make().pick("far", answer) is answer.far
    assert Depth(output="far").read(answer) is answer.far
    with pytest.raises(PrunerError, match="cannot share a call with other tasks"):
        Several({"boxes": Detection()}).forward(TwoHeads().eval(), images(2))


@torch.no_grad()
def test_metrics_of_several_processes_are_put_together() -> None:
    torch.manual_seed(0)
    model, task = TwoHeads().eval(), make()
    inputs, targets = draw()
    outputs = task.forward(model, inputs)
    whole, other = task.metric(), task.metric()
    whole.add(outputs, targets)
    whole.add(outputs, {"far": targets["far"]})
    for some in (targets, {"far": targets["far"]}):
        part = task.metric()
        part.add(outputs, some)
        other.merge(part.state())
    assert other.compute_all() == pytest.approx(whole.compute_all())
    assert other.compute() == pytest.approx(whole.compute())


def test_data_sets_take_turns_and_resume_at_any_batch() -> None:
    one = wrap_datasets(([(torch.full((1,), k), k) for k in range(12)],) * 2)
    two = wrap_datasets(([(torch.full((1,), 100 + k), k) for k in range(20)],) * 2)
    data = TurnsData({("a",): one, ("b",): two})
    batches = data.train(4, seed=3)
    assert len(batches) == 8
    for epoch in range(2):
        whole = [(x.flatten().tolist(), list(y)) for x, y in batches.epoch(epoch)]
        assert [names for _, names in whole].count(["a"]) == 3
        again = [(x.flatten().tolist(), list(y)) for x, y in batches.epoch(epoch, 5)]
        assert again == whole[5:]
        seen = sorted(v for values, _ in whole for v in values)
        assert seen == [*range(12), *range(100, 120)]
    assert [*map(list, (y for _, y in data.test(10)))] == [["a"], ["a"], ["b"], ["b"]]
    assert sum(len(x) for x, _ in data.train(4, limit=8)) == 8


def test_both_heads_are_scored_repaired_and_tuned() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = draw(24)
    rows = [(x[k], {"seg": y["seg"][k], "far": {n: v[k] for n, v in y["far"].items()}})
            for k in range(24)]  # fmt: skip
    task = make(data=wrap_datasets((rows, rows[:8])))
    net = pruner.trace(TwoHeads().eval(), (x[:1],))
    batches = list(task.data.train(8, augment=False))
    for criterion in ("measured", "taylor", "taylor_sample", "hessian"):
        scores = pruner.score(net, batches, None, criterion, task=task)
        assert any(scores.total(name).max() > 0 for name in net.dims), criterion
    plan = pruner.Plan.random(net, macs=0.5, seed=1, drop_blocks=0.0).refill(scores)
    small = pruner.apply(net, plan)
    cut = evaluate(small, task.data.test(), task)
    assert pruner.repair(small, net, plan, batches, task=task)
    recipe = Recipe(batch=8, lr=0.02)
    history = finetune(small, net.module, None, 3, task=task, recipe=recipe)
    assert history.epochs[-1].test_loss < cut.loss
    assert set(history.others) == {"far_rmse"} and history.metric.key == "seg_mean_iou"
