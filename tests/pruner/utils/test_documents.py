"""Documents of others: plain values, or a ValueError whatever is wrong with them."""

from __future__ import annotations

import pytest

from pruner.utils import append_line, parse_json, parse_yaml, read_lines


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe", "[" * 200_000, "1" * 5000, "{1: 2}"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "a: " * 3,
        "[" * 20_000,
        "!!python/object/apply:os.system [ls]",
        "{[1]: 2}",
        "{{a: 1}: 2}",
        "a: !!set {b, c}",
        "a: !!binary aGFsbG8=",
        "a: !!timestamp 2026-99-99",
        "n: " + "9" * 5000,
        "a: {1: b, c: d}",
        "a: &a [*a]",
        "a0: &a0 [1, 2]\n"
        + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)),
        "\0",
    ],
)
def test_what_is_no_plain_yaml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_yaml(text)


def test_dates_are_texts_and_numbers_numbers() -> None:
    found = parse_yaml("{data: 2026-01-31, seen: 2026-01-31 10:00:00, lr: 0.1, flag: yes, a: }")
    assert found == {
        "data": "2026-01-31", "seen": "2026-01-31 10:00:00", "lr": 0.1, "flag": True, "a": None,
    }  # fmt: skip
    assert parse_yaml("classes: {0: road, 1: sky}") == {"classes": {0: "road", 1: "sky"}}


def test_lines_that_were_edited_or_are_of_another_file_are_none(tmp_path) -> None:
    path = tmp_path / "a.txt"
    for content in ([["x", 0.25], ["y", 1e-9]], {"budget": "70%"}):
        append_line(path, content)
    assert read_lines(path) == [[["x", 0.25], ["y", 1e-9]], {"budget": "70%"}]
    text = path.read_text()
    path.write_text(text.replace("0.25", "0.35"))
    assert read_lines(path) == [{"budget": "70%"}]
    path.write_text(text[:-3])  # killed while it wrote
    append_line(path, "z")
    assert read_lines(path) == [[["x", 0.25], ["y", 1e-9]], "z"]
    (tmp_path / "b.txt").write_text(text)
    assert read_lines(tmp_path / "b.txt") == []
    path.write_bytes(b"\xff\xfe" + text.encode())
    assert read_lines(path) == [[["x", 0.25], ["y", 1e-9]], {"budget": "70%"}]
