"""Which of a network's inputs are texts, and the tokenizer that makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..data import FolderTokenizer, Tokenizer
from ..errors import PrunerError, first_line
from ..utils import import_object, is_object_name, search_current_folder
from .request import TaskRequest


@dataclass(frozen=True)
class NamedTokenizer:
    """A tokenizer of which only what the network takes is kept.

    Attributes:
        tokenizer: Makes tensors of texts.
        where: What it is called in messages and fingerprints.
        names: Keyword arguments of the network.
        length: Tokens of every text.
    """

    tokenizer: Tokenizer
    where: str
    names: tuple[str, ...]
    length: int

    def __call__(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the keyword arguments, int64 [n, length] each.

        Raises:
            PrunerError: It fails, does not make one that the network takes, or of another length.
        """
        try:
            found = self.tokenizer(texts)
        except PrunerError:
            raise
        except Exception as error:  # whatever the user's function raises
            raise PrunerError(f"tokenizer {self.where} failed: {first_line(error)}") from error
        missing = [name for name in self.names if name not in found]
        if missing:
            raise PrunerError(
                f"tokenizer {self.where} makes {', '.join(found)}, but the network takes "
                f"{missing[0]} too"
            )
        for name in self.names:
            if found[name].shape != (len(texts), self.length):
                raise PrunerError(
                    f"tokenizer {self.where} makes {name} {list(found[name].shape)} of "
                    f"{len(texts)} texts, but the network takes {self.length} tokens: expected "
                    f"[{len(texts)}, {self.length}]"
                )
        return {name: found[name] for name in self.names}

    def __repr__(self) -> str:
        """Say what it is, for a fingerprint."""
        return (
            f"NamedTokenizer({self.tokenizer!r}, {self.names}, {self.length})"
            if isinstance(self.tokenizer, FolderTokenizer)
            else f"NamedTokenizer({self.where}, {self.names}, {self.length})"
        )


def find_texts(request: TaskRequest) -> tuple[tuple[str, ...], int] | None:
    """Return the names of the inputs that are texts, and the tokens of each; None without any."""
    named = _name_inputs(request)
    found = {
        name: x for name, x in named.items()
        if isinstance(x, Tensor) and x.ndim == 2 and not x.is_floating_point()
    }  # fmt: skip
    if not found:
        return None
    return tuple(found), next(iter(found.values())).shape[1]


def find_image_argument(request: TaskRequest) -> str | None:
    """Return the name of the input that is an image; None where it has none, or there is none."""
    return next(
        (name for name, x in _name_inputs(request).items() if getattr(x, "ndim", 0) == 4), None
    )


def open_tokenizer(request: TaskRequest, choice: str | None) -> NamedTokenizer:
    """Open the tokenizer of a network of texts.

    Args:
        request: The network.
        choice: A folder, or ``package.module:function`` from texts to tensors by name; None: the
            model's folder.

    Raises:
        PrunerError: The network takes no texts, or there is no tokenizer.
    """
    texts = find_texts(request)
    if texts is None:
        raise PrunerError(
            f"{request.network} takes no texts by name: expected keyword arguments of whole "
            "numbers [n, tokens], such as input_ids"
        )
    names, length = texts
    where = choice or request.folder
    if where is None:
        raise PrunerError(
            f"{request.network} brings no tokenizer: say it in the task's settings, as tokenizer: "
            "FOLDER (with tokenizer.json) or package.module:function"
        )
    if is_object_name(where):
        with search_current_folder():
            made = import_object(where, "tokenizer")
        if not callable(made):
            raise PrunerError(f"tokenizer {where!r} is a {type(made).__name__}, not a function")
        return NamedTokenizer(made, where, names, length)
    return NamedTokenizer(FolderTokenizer(Path(where).absolute(), length), where, names, length)


def _name_inputs(request: TaskRequest) -> dict[str, object]:
    named = request.inputs[len(request.inputs) - len(request.keywords) :]
    return dict(zip(request.keywords, named))
