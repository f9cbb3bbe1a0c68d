"""Words and sentences of text that every Python brings: the language's reference, `pydoc_data`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

ALPHABET = (
    "0123456789!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \u20ac"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
"""Characters of EasyOCR's english_g2, in the order of its outputs from 1 on; 0 is CTC's blank."""


def read_reference() -> str:
    """Return the reference as one text; it differs from one version of Python to the next."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def list_words(text: str | None = None, shortest: int = 3, longest: int = 10) -> list[str]:
    """Return the different words in small letters of a text (the reference), sorted."""
    found = re.findall(r"\b[a-z]+\b", read_reference() if text is None else text)
    return sorted({word for word in found if shortest <= len(word) <= longest})


def list_sentences(text: str | None = None, fewest: int = 8, most: int = 40) -> list[str]:
    """Return the different sentences of a text (the reference) with so many words, sorted.

    A sentence is a run of words from a capital letter to a full stop, within a paragraph that
    is neither a program nor a table.
    """
    found = set()
    for paragraph in re.split(r"\n\s*\n", read_reference() if text is None else text):
        if re.search(r"[|=<>{}\[\]_-]{2}|->|::|\.\.\.| \| ", paragraph):
            continue
        joined = " ".join(paragraph.replace("*", "").replace('"', "").split())
        for sentence in re.findall(r"(?:^|(?<=[.!?] ))[A-Z][^.!?]*[.!?](?= |$)", joined):
            if fewest <= len(sentence.split()) <= most:
                found.add(sentence)
    return sorted(found)


def list_topic_sentences(each: int = 4) -> list[tuple[str, str]]:
    """Return (topic, sentence) of the reference's topics with so many sentences, sorted.

    Of a topic with more, those that are evenly spaced are taken; a sentence of several topics is of
    none.
    """
    from pydoc_data.topics import topics

    found = {name: list_sentences(topics[name]) for name in sorted(topics)}
    counts = Counter(sentence for sentences in found.values() for sentence in sentences)
    rows = []
    for name, sentences in found.items():
        own = [sentence for sentence in sentences if counts[sentence] == 1]
        if len(own) >= each:
            rows += [(name, own[k * len(own) // each]) for k in range(each)]
    return rows


def draw_text(words: Sequence[str], dice: np.random.Generator) -> str:
    """Return a word in one of three spellings, a number, or two short words."""
    kind = dice.random()
    if kind < 0.1:
        return str(dice.integers(10, 1_000_000))
    word = words[int(dice.integers(len(words)))]
    if kind < 0.2 and len(word) < 6:
        word += " " + words[int(dice.integers(len(words)))][:6]
    return (word, word.capitalize(), word.upper())[dice.integers(3)]
