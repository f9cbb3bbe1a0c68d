"""Finds class scores among what a network returns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import PrunerError
from .divergence import SCORES
from .records import to_record


def extract_scores(results: Any) -> Tensor:
    """Return the scores among a network's results: the tensor, or a record's ``logits``.

    Args:
        results: What a network returns; of Hugging Face's classifiers a record.

    Raises:
        PrunerError: Anything else: which of several results is meant, nobody can know.
    """
    if isinstance(results, Tensor):
        return results
    found = to_record(results)
    record = found if isinstance(found, Mapping) else {}
    if isinstance(record.get(SCORES), Tensor):
        return record[SCORES]
    named = f" with {', '.join(map(str, record))}" if record else ""
    raise PrunerError(
        f"the network returns a {type(results).__name__}{named}, not class scores: a tensor, or a "
        "mapping with logits"
    )
