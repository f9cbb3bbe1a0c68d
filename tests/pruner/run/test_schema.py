"""The JSON schema of configuration files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pruner.run.schema import schema_text

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads(schema_text())


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema["$defs"].values()):
        yield from part["properties"].items()


def test_the_file_in_docs_is_up_to_date() -> None:
    """``python -m pruner.run.schema > docs/config.schema.json`` writes it."""
    assert (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8") == schema_text()


def test_every_entry_is_described_and_no_other_allowed() -> None:
    assert all(content.get("description") for _, content in properties(SCHEMA))
    assert not any(part["additionalProperties"] for part in (SCHEMA, *SCHEMA["$defs"].values()))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")))
def test_the_examples_use_its_entries(path: Path) -> None:
    for name, value in yaml.safe_load(path.read_text()).items():
        entry = SCHEMA["properties"][name]
        if "$ref" in entry:
            assert set(value) <= set(SCHEMA["$defs"][entry["$ref"].split("/")[-1]]["properties"])
