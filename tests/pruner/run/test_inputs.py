"""Inputs by the command line: token ids, masks, several arguments and dictionaries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pruner.errors import PrunerError
from pruner.models import make_example, parse_specs, set_batch
from pruner.run.cli import main
from pruner.run.config import Config
from pruner.run.model_input import set_single_batch

SOURCE = '''
import torch
from torch import nn

from pruner import make_task


class Reader(nn.Module):
    """Words, their segments, and a mask of what is padding: four classes of a text."""

    def __init__(self):
        super().__init__()
        self.words, self.segments = nn.Embedding(50, 32), nn.Embedding(2, 32)
        self.places = nn.Parameter(torch.randn(12, 32))
        self.up, self.down, self.head = nn.Linear(32, 768), nn.Linear(768, 32), nn.Linear(32, 4)

    def forward(self, ids, mask, segments=None):
        x = self.words(ids) + self.places[: ids.shape[1]]
        if segments is not None:
            x = x + self.segments(segments)
        x = x + self.down(self.up(x).relu())
        weight = mask[..., None].to(x.dtype)
        return self.head((x * weight).sum(1) / weight.sum(1))


class Packed(Reader):
    """The same in one dictionary."""

    def forward(self, batch):
        return super().forward(batch["ids"], batch["mask"])


class Counter(Reader):
    """Numbers that nothing is looked up by."""

    def forward(self, ids, mask):
        return self.head(torch.zeros(len(ids), 32) + ids.sum(1, keepdim=True) * mask.sum())


def draw(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        ids = torch.randint(0, 50, (12,), generator=rng)
        mask = (torch.arange(12) < torch.randint(3, 13, (), generator=rng)).long()
        rows.append(({"ids": ids, "mask": mask}, ids[0] % 4))
    return rows


def reading():
    def loss(outputs, labels):
        return nn.functional.cross_entropy(outputs, labels)

    data = (draw(24), draw(8, 1))
    return make_task(data=data, loss=loss, name="reading")

'''
MEASURE = ("--quick", "--probes", "5", "--library", "none", "--seed", "3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"readers_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / name


def spell(inputs: list[str]) -> list[str]:
    return [word for text in inputs for word in ("--input", text)]


def test_ids_and_masks_from_beginning_to_end(here: Path, capsys) -> None:
    model, inputs = f"{here.name}:Reader", ["ids=1x12:int", "mask=1x12:ones"]
    assert main(["measure", model, "--out", "RUN", *spell(inputs), *MEASURE]) == 0
    asked = ("--task", f"{here.name}:reading", "--images", "16")
    assert main(["solve", "RUN", "--budget", "75%", "--no-check", *asked]) == 0
    assert main(["finetune", "RUN", "--epochs", "1", "--batch", "8", "--repair", "16"]) == 0
    found = json.loads(Path("RUN/metrics.json").read_text())
    assert found["pruned"]["divergence_from_dense"] >= 0
    assert json.loads(Path("RUN/run.json").read_text())["identity"]["input"] == inputs
    other = spell(["ids=1x10:int", "mask=1x10:ones"])
    assert main(["measure", model, "--out", "RUN", *other, *MEASURE]) == 2
    assert "use another RUN" in capsys.readouterr().err


def test_a_dictionary_is_traced(here: Path, capsys) -> None:
    given = spell(["batch.ids=1x12:int", "batch.mask=1x12:ones"])
    assert main(["inspect", f"{here.name}:Packed", *given]) == 0
    assert "768 " in capsys.readouterr().out


WRONG = {
    "no shape": (["ids=large:int"], "KIND is float, int"),
    "no kind": (["ids=1x12:whole"], "KIND is float, int"),
    "twice": (["ids=1x12:int", "ids=1x12:int"], "every name once"),
    "not taken": (["words=1x12:int"], "does not take words=1x12:int"),
    "floats": (["ids=1x12", "mask=1x12:ones"], "does not take an input of ids=1x12"),
    "beyond the table": (["ids=1x12:int<5000", "mask=1x12:ones"], "does not take an input"),
    "no table": (["ids=1x12:int", "mask=1x12:ones"], "looks nothing up by these numbers"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_inputs_are_one_line(case: str, here: Path, capsys) -> None:
    inputs, words = WRONG[case]
    network = "Counter" if case == "no table" else "Reader"
    assert main(["inspect", f"{here.name}:{network}", *spell(inputs)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_numbers_lie_within_the_table_that_they_are_looked_up_in(here: Path) -> None:
    space: dict = {}
    exec(SOURCE, space)
    network = space["Reader"]().eval()
    specs = parse_specs(["ids=3x12:int", "mask=3x12:ones", "segments=3x12:int"])
    given = make_example(network, specs).kwargs
    assert given["ids"].max() < 50 and given["ids"].max() > 2
    assert set(given["segments"].unique().tolist()) == {0, 1}
    assert given["mask"].dtype == torch.int64 and given["mask"].all()
    again = make_example(network, specs).kwargs
    assert all(torch.equal(value, again[name]) for name, value in given.items())
    assert [spec.shape[0] for spec in set_batch(specs, 5)] == [5, 5, 5]


def test_specs_nest_and_are_written_as_they_are_read() -> None:
    texts = [".ids=2x4:int<9", ".mask=2x4:true", "2x3x8x8", "more.deep.x=2x1", "more.y=2x1:zeros"]
    specs = parse_specs(texts)
    assert list(map(str, specs)) == texts
    example = make_example(torch.nn.Identity(), specs)
    assert example.args[0].keys() == {"ids", "mask"} and example.args[1].shape == (2, 3, 8, 8)
    assert example.kwargs["more"]["deep"]["x"].is_floating_point()
    assert not example.kwargs["more"]["y"].any()
    with pytest.raises(PrunerError, match="every name once"):
        parse_specs(["a=1x2", "a.b=1x2"])


def test_inputs_of_two_runs_may_differ_in_their_batch_alone() -> None:
    ids = ("ids=8x12:int", "mask=8x12:ones", "kinds=3x4")
    assert set_single_batch(ids) == ("ids=1x12:int", "mask=1x12:ones", "kinds=3x4")
    assert set_single_batch(["ids=1x12:int"]) != set_single_batch(["ids=1x10:int"])
    assert set_single_batch([8, 3, 16, 16]) == set_single_batch([1, 3, 16, 16])
    assert set_single_batch([1, 3, 16, 16]) != set_single_batch([1, 3, 16, 8])


def test_a_configuration_takes_a_shape_texts_or_names() -> None:
    def read(value):
        return Config.from_dict({"model": "m:n", "input": value}).input

    assert read("1x3x8x8") == read([1, 3, 8, 8]) == read(["1x3x8x8"]) == (1, 3, 8, 8)
    said = ("ids=1x4:int", "mask=1x4:ones")
    assert read({"ids": "1x4:int", "mask": "1x4:ones"}) == read(list(said)) == said
    config = Config.from_dict({"model": "m:n", "input": list(said)})
    assert Config.from_dict(config.to_dict()) == config
