"""Which part of a network's results are the class scores."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import PrunerError


def extract_logits(results: Any, kind: type = Tensor) -> Any:
    """Return the scores that a loss or an accuracy looks at: the tensor, or its entry ``logits``.

    Classifiers return a tensor; those of Hugging Face a record that calls it ``logits``.

    Args:
        results: What a network returns.
        kind: ``fx.Node`` for what a graph returns.

    Raises:
        PrunerError: Anything else: which of several results is meant, nobody can know.
    """
    if isinstance(results, kind):
        return results
    if isinstance(results, Mapping):
        found = results.get("logits")
        if isinstance(found, kind):
            return found
        named = f" with {', '.join(map(str, results))}"
    else:
        named = ""
    raise PrunerError(
        f"the network returns a {type(results).__name__}{named}, not class scores: a tensor, or a "
        "mapping with logits"
    )
