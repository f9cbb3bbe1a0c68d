"""Classes of settings: what they take, and the one line for what they do not."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Annotated, Any

import pytest
from pydantic import StrictFloat, StrictInt, StrictStr, ValidationInfo, field_validator

from pruner.errors import PrunerError
from pruner.utils import NUMBER, SECTION, entry, read_settings, refuse, settings_class


@settings_class
class Part:
    rate: Annotated[StrictFloat | None, entry("rate", gt=0), NUMBER] = None
    share: Annotated[StrictFloat, entry("share", ge=0, lt=1), NUMBER] = 0.5
    pieces: Annotated[StrictInt, entry("pieces", ge=2)] = 2

    @field_validator("pieces")
    @classmethod
    def _check_pieces(cls, value: int, info: ValidationInfo) -> int:
        if value == 13:
            raise refuse("a lucky {number}")
        return value


@settings_class
class Whole:
    name: StrictStr
    part: Annotated[Part, entry("part"), SECTION] = field(default_factory=Part)
    free: dict[str, Any] = field(default_factory=dict)


def test_plain_data_becomes_values_of_the_right_type() -> None:
    found = read_settings(Whole, {"name": "n", "part": {"rate": "1e-2", "share": 0}})
    assert asdict(found) == {
        "name": "n", "part": {"rate": 0.01, "share": 0.0, "pieces": 2}, "free": {},
    }  # fmt: skip
    assert isinstance(found.part.share, float)
    assert read_settings(Whole, {"name": "n", "part": None}) == Whole("n")
    with pytest.raises(FrozenInstanceError):
        found.name = "m"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (3, "the configuration: expected names and values, got 3"),
        ({}, "entry name is missing"),
        ({"nam": "n"}, "unknown entry nam: did you mean name?"),
        ({"name": "n", 3: 4}, "unknown entry 3: known are name, part, free"),
        ({"name": "n", "part": 3}, "part: expected names and values, got 3"),
        ({"name": "n", "part": {"rat": 1}}, "unknown entry part.rat: did you mean rate?"),
        ({"name": "n", "part": {"rate": "x"}}, "part.rate: expected a number or nothing, got 'x'"),
        ({"name": "n", "part": {"rate": 0}}, "part.rate: expected above 0, got 0"),
        ({"name": "n", "part": {"share": True}}, "part.share: expected a number, got True"),
        ({"name": "n", "part": {"share": 1.5}}, "part.share: expected in [0, 1), got 1.5"),
        ({"name": "n", "part": {"pieces": 1}}, "part.pieces: expected at least 2, got 1"),
        ({"name": "n", "part": {"pieces": 13}}, "part.pieces: expected a lucky {number}, got 13"),
        ({"name": "n", "free": []}, "free: expected names and values, got []"),
    ],
)
def test_one_line_says_what_is_wrong(content: Any, said: str) -> None:
    with pytest.raises(PrunerError) as error:
        read_settings(Whole, content)
    assert str(error.value) == said


def test_a_constructor_and_replace_validate_too() -> None:
    for make in (lambda: Part(pieces=0), lambda: replace(Part(), pieces=0)):
        with pytest.raises(PrunerError, match="^pieces: expected at least 2, got 0$"):
            make()
    with pytest.raises(PrunerError, match="unknown entry piece: did you mean pieces"):
        Part(piece=2)  # type: ignore[call-arg]
