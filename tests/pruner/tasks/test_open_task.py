"""Opening tasks by name: settings, data of several kinds, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pruner.errors import PrunerError
from pruner.run.config import Config
from pruner.tasks import Embedding, Several, TaskRequest, describe_choice, open_task

from ..every_task import CASES, Classifier, TextTower, TwoHeads, TwoTowers, make_tokens, write_dense
from ..segments import CLASSES, SIZE


def request(model: nn.Module, data: Path | str | None, **inputs: torch.Tensor) -> TaskRequest:
    """What a task is opened with; a network of images without inputs."""
    values = inputs or {"x": torch.zeros(1, 3, SIZE, SIZE)}
    keywords = tuple(inputs)
    return TaskRequest(
        "net", lambda: model.eval()(**values) if inputs else model.eval()(values["x"]),
        tuple(values.values()), tuple(next(iter(values.values())).shape),
        None if data is None else str(data), keywords=keywords,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense")
    write_dense(path)
    return path


def test_several_tasks_read_one_folder_or_their_own(folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(CASES["several"].settings)
    task = open_task(settings, request(TwoHeads(), folder))
    assert isinstance(task, Several)
    inputs, targets = next(iter(task.data.train(4)))
    assert inputs.shape == (4, 3, SIZE, SIZE) and {*targets} == {"seg", "far"}
    write_dense(tmp_path)
    own = {**settings["tasks"], "far": {**settings["tasks"]["far"], "data": str(tmp_path)}}
    apart = open_task({**settings, "tasks": own}, request(TwoHeads(), folder))
    assert sorted(name for _, y in apart.data.train(8) for name in y) == ["far"] * 2 + ["seg"] * 2
    assert apart.fingerprint() != task.fingerprint()
    for change, words in (
        ({"tasks": {"seg": "segmentaton"}, "weights": {}}, "task seg: unknown task 'segmentaton'"),
        ({"tasks": {"seg": {"name": "segmentation", "fits": 1}}, "weights": {}}, "entry fits"),
        ({"weight": {}}, "unknown entry weight: did you mean weights"),
        ({"main": "x"}, "main names no task"),
    ):
        with pytest.raises(PrunerError, match=words):
            open_task({**settings, **change}, request(TwoHeads(), folder))


def test_a_saved_data_set_is_read_whatever_the_task(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)

    def draw(count: int) -> Any:
        images = [Image.fromarray(rng.integers(0, 99, (8, 8, 3), np.uint8)) for _ in range(count)]
        masks = [Image.fromarray(np.full((8, 8), 1, np.uint8)) for _ in range(count)]
        features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
        return datasets.Dataset.from_dict({"image": images, "mask": masks}, features=features)

    datasets.DatasetDict({"train": draw(4), "test": draw(2)}).save_to_disk(str(tmp_path / "hf"))
    settings = {"name": "segmentation", "workers": 0, "columns": {"image": "image", "mask": "mask"}}
    wide = nn.Conv2d(3, CLASSES, 1)
    task = open_task(settings, request(wide, tmp_path / "hf"))
    images, masks = next(iter(task.data.test(2)))
    assert images.shape == (2, 3, SIZE, SIZE) and masks.unique().tolist() == [1]


def test_embeddings_are_of_images_in_any_folders(folder: Path, tmp_path: Path) -> None:
    task = open_task("embedding", request(Classifier(), folder))
    assert isinstance(task, Embedding)
    inputs, targets = next(iter(task.data.test(4)))
    assert inputs.shape == (4, 3, SIZE, SIZE) and targets is None
    second = TaskRequest(**{**vars(request(Classifier(), folder)), "target": str(folder / "val")})
    found = open_task("embedding", second)
    assert found.target is not None and found.fingerprint() == task.fingerprint()
    nowhere = TaskRequest(**{**vars(second), "target": str(tmp_path)})
    with pytest.raises(PrunerError, match="no images in this folder"):
        open_task("embedding", nowhere)


def test_what_cannot_be_opened_is_said(folder: Path, tmp_path: Path) -> None:
    grey = nn.Conv2d(1, 1, 1)
    x = {"input": torch.zeros(1, 1, 8, 8)}
    tokens = make_tokens(1)
    towers = {"pixel_values": torch.zeros(1, 3, SIZE, SIZE), **tokens}
    cases = [
        ("depth", request(grey, folder, **x), "mean and std are"),
        ("multilabel", request(TwoHeads(), folder), "not class scores|logits"),
        ("depth", request(TwoHeads(), folder), "setting output"),
        ("recognition", request(Classifier(), folder), "no recognizer by CTC"),
        ("retrieval", request(Classifier(), folder), "expected embeddings"),
        ("retrieval", request(TwoTowers(), folder, **towers), "brings no tokenizer"),
        ("embedding", request(TextTower(), folder, **tokens), "brings no tokenizer"),
        ("embedding", request(TextTower(), None, **tokens), "give --data"),
        ({"name": "depth", "loss": "l3"}, request(grey, folder, **x), "task: loss: expected"),
        ({"name": "depth", "metric": ["rmse", "no"]}, request(grey, folder, **x), "metric"),
        (
            {"name": "embedding", "tokenizer": "tests.pruner.every_task:SIZE"},
            request(TextTower(), folder, **tokens), "not a function",
        ),
        ("multilabel", request(Classifier(), tmp_path / "no"), "no such data folder"),
    ]  # fmt: skip
    for choice, given, words in cases:
        with pytest.raises(PrunerError, match=words):
            open_task(choice, given)
    task = open_task(
        {"name": "depth", "mean": 0.5, "std": [0.5], "workers": 0}, request(grey, folder, **x)
    )
    assert next(iter(task.data.train(2)))[0].shape == (2, 1, 8, 8)


def test_a_text_in_braces_is_a_choice_with_settings() -> None:
    config = Config.from_dict({"model": "m", "task": "{name: depth, loss: l2}"})
    assert config.task == {"name": "depth", "loss": "l2"}
    assert describe_choice(config.task) == "depth, loss l2"
    assert config.with_changes({"task": {"name": "embedding"}}).task == {"name": "embedding"}
    assert config.with_changes({"task": {"loss": "l1"}}).task == {"name": "depth", "loss": "l1"}
    for text in ("{name: [", "{loss: l2}"):
        with pytest.raises(PrunerError, match="task"):
            Config.from_dict({"model": "m", "task": text})
