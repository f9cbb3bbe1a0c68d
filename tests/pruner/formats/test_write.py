"""What is not right is not written: answers are compared, and files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latency_tables import EngineError
from pruner import PrunerError
from pruner.formats import FileModule, PlainNetwork, WriteOptions, export_network
from pruner.formats.agreement import compare_batch


class Pretended:
    """A format whose file is run by torch, and wrongly."""

    name, suffixes, precisions, frees_batch = "pretended", (".x",), ("fp32",), True

    def __init__(self, factor: float = 1.0, most: int = 99, fails: str = "") -> None:
        self.factor, self.most, self.fails = factor, most, fails

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        file.write_text("half of it")
        if self.fails:
            raise RuntimeError(self.fails)
        self.network = network
        file.write_text("all of it")
        file.with_suffix(".more").write_text("weights")

    def open(self, file: Path, threads: int):
        def run(values: tuple[Tensor, ...]) -> list[Tensor]:
            if len(values[0]) > self.most:
                raise RuntimeError("too large a batch\nsecond line")
            with torch.no_grad():
                return [self.factor * self.network.module(*values)]

        return run

    def name_runtime(self) -> str:
        return "nobody's runtime"


@pytest.fixture
def network() -> PlainNetwork:
    torch.manual_seed(0)
    return PlainNetwork.of(nn.Sequential(nn.Linear(6, 4)), (torch.randn(1, 6),))


def test_wrong_answers_are_not_written(network, tmp_path):
    (tmp_path / "a.x").write_text("of before")
    said = "nobody's runtime answers otherwise than torch .*; nothing was written$"
    with pytest.raises(PrunerError, match=said):
        export_network(network, Pretended(1.05), tmp_path / "a.x", WriteOptions())
    assert [p.name for p in tmp_path.iterdir()] == ["a.x"]
    assert (tmp_path / "a.x").read_text() == "of before"


def test_a_file_that_takes_one_batch_only_is_written_so(network, tmp_path):
    done = export_network(network, Pretended(most=1), tmp_path / "a.x", WriteOptions())
    assert done.fixed_because == "RuntimeError: too large a batch" and done.batch == 1
    assert sorted(done.digests) == ["a.more", "a.x"] == sorted(p.name for p in tmp_path.iterdir())


class Refused(Pretended):
    """A format whose runtime loads no file of a free batch."""

    def open(self, file: Path, threads: int):
        if self.network.free_batch:
            raise EngineError("the runtime refuses the network")
        return super().open(file, threads)


def test_a_runtime_that_refuses_a_free_batch_is_given_a_fixed_one(network, tmp_path):
    done = export_network(network, Refused(), tmp_path / "a.x", WriteOptions())
    assert "the runtime refuses the network" in done.fixed_because and done.agreement is not None


class OtherOfSeveral(Pretended):
    """A format whose file is wrong of any batch but one."""

    def open(self, file: Path, threads: int):
        right = super().open(file, threads)
        return lambda values: [x + float(len(values[0]) > 1) for x in right(values)]


def test_wrong_answers_to_another_batch_are_the_reason_of_a_fixed_one(network, tmp_path):
    done = export_network(network, OtherOfSeveral(), tmp_path / "a.x", WriteOptions())
    assert done.fixed_because.startswith("nobody's runtime answers otherwise than torch (")
    assert "nothing was written" not in done.fixed_because


def test_what_a_library_raises_becomes_one_line(network, tmp_path):
    with pytest.raises(PrunerError, match="cannot be written: RuntimeError: no such operator$"):
        export_network(
            network, Pretended(fails="no such operator\nand more"), tmp_path / "a.x", WriteOptions()
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "said"),
    [("text/a.x", "cannot be written"), ("a.y", "ends in .x"), ("d.x", "a folder")],
)
def test_places_that_cannot_be_written(network, tmp_path, file, said):
    (tmp_path / "text").write_text("")
    (tmp_path / "d.x").mkdir()
    with pytest.raises(PrunerError, match=said):
        export_network(network, Pretended(), tmp_path / file, WriteOptions())


def test_differences_are_a_share_of_the_spread():
    expected = torch.tensor([[1000.0, 1002.0]])
    found = compare_batch([expected + torch.tensor([0.0, 0.5])], [expected])
    assert found.absolute == 0.5 and found.relative == 0.25 and "25.0% of its spread" in found.fault
    assert not compare_batch([expected + 1e-4], [expected]).fault


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ([torch.zeros(1, 3)], "shape"),
        ([torch.zeros(1, 2)] * 2, "2 outputs"),
        ([torch.tensor([[0.0, float("nan")]])], "not finite"),
        ([torch.tensor([[0.0, float("inf")]])], "not finite"),
    ],
)
def test_faults_are_said(got, said):
    assert said in compare_batch(got, [torch.zeros(1, 2)]).fault


def test_integers_may_change_at_a_near_tie():
    classes = torch.arange(100)
    one, many = classes.clone(), classes.clone()
    one[0], many[:5] = 7, 99
    assert compare_batch([one], [classes]).changed == 0.01
    assert not compare_batch([one], [classes]).fault
    assert "5.0% of its values differ" in compare_batch([many], [classes]).fault
    nothing = torch.full((2,), float("nan"))
    assert not compare_batch([nothing], [nothing]).fault


def test_answers_to_a_whole_batch_are_not_put_together_of_parts(network):
    fixed = network.fix_batch()
    rows = FileModule(lambda values: [fixed.module(*values)], fixed)
    x = torch.randn(3, 6)
    torch.testing.assert_close(rows(x), fixed.module(x))
    whole = FileModule(lambda values: [fixed.module(*values).sum()], fixed)
    with pytest.raises(PrunerError, match="a batch of 3 cannot be judged"):
        whole(x)
