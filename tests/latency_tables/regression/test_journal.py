"""The journal of a measurement under way: a sample that was edited is found out."""

from __future__ import annotations

import json
import random

import pytest

import latency_tables
from latency_tables import DamagedTableError
from latency_tables.regression.journal import Journal

from ..fakes import FakeEngine, FakeSource


@pytest.fixture
def journal(tmp_path):
    table = latency_tables.measure(FakeSource(), FakeEngine(), probes=4)
    made = Journal(tmp_path, table.device)
    for reading in table.readings:
        made.append(reading)
    return made


def test_readings_come_back_and_those_of_before_seals_too(journal):
    device = FakeEngine().device
    assert Journal(journal.file.parent, device).readings == journal.readings
    header, *rows = journal.file.read_text().splitlines()
    plain = [json.dumps({k: v for k, v in json.loads(r).items() if k != "seal"}) for r in rows]
    journal.file.write_text("\n".join([header, *plain]) + "\n")
    assert Journal(journal.file.parent, device).readings == journal.readings


def parse_lines(text: str) -> list[dict] | None:
    """Return what every line says; None where one is no JSON."""
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return None


def test_an_edited_digit_is_refused_by_the_files_name(journal):
    device, text = FakeEngine().device, journal.file.read_text()
    head = text.index("\n") + 1
    places = [i for i, letter in enumerate(text) if letter.isdigit() and i > head]
    edits = {}
    for place in places:
        other = str((int(text[place]) + 1) % 10)
        edits[place] = text[:place] + other + text[place + 1 :]
    # The last of seventeen digits may change and name the same number: nothing is damaged then.
    changing = [place for place in places if parse_lines(edits[place]) != parse_lines(text)]
    assert len(changing) > 0.9 * len(places)
    for place in random.Random(0).sample(changing, 40):
        journal.file.write_text(edits[place])
        with pytest.raises(DamagedTableError, match=r"latency\.journal"):
            Journal(journal.file.parent, device)


@pytest.mark.parametrize("text", ["", "[]\n", "null\n", "{}\n", "\xff\n", "[" * 100_000 + "\n"])
def test_what_is_no_journal_is_refused(text, journal):
    journal.file.write_text(text)
    with pytest.raises(DamagedTableError, match=r"latency\.journal"):
        Journal(journal.file.parent, FakeEngine().device)
