"""Recognition: what a line of text says, by CTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import StrictBool, StrictStr
from torch import Tensor

from ..data import TaskData, open_text_lines, read_alphabet
from ..errors import PrunerError
from ..utils import entry, settings_class, wrong_value
from .base import Task
from .class_scores import extract_scores
from .ctc import count_steps, ctc_losses, find_best_path
from .data_settings import ImageSettings
from .divergence import compare_scores, describe_shapes
from .library import load_torchmetrics
from .metric import GroupMetric, LibraryMetric, MeanMetric, Metric, MetricKind
from .request import TaskRequest
from .total import Total

WORDS = MetricKind("word accuracy")
CHARACTERS = MetricKind("character error rate", "%", higher_is_better=False)


@settings_class
class RecognitionSettings(ImageSettings):
    """What a recognition task may be told."""

    alphabet: Annotated[
        StrictStr | None,
        entry("characters in the order of the network's outputs, or a file of them (default: the "
              "data's alphabet.txt)"),
    ] = None  # fmt: skip
    blank_last: Annotated[
        StrictBool, entry("CTC's blank is the network's last output, not its first")
    ] = False
    steps_first: Annotated[
        StrictBool, entry("the network returns [steps, n, outputs], not [n, steps, outputs]")
    ] = False
    metric: Annotated[
        Literal["words", "characters", "both"],
        entry("words: the share that is right; characters: their error rate; both"),
    ] = "words"
    ignore_case: Annotated[StrictBool, entry("capitals count as small letters")] = False


class Recognition(Task):
    """Texts of lines: scores [n, steps, characters + 1], of which one is CTC's blank.

    Targets are a list of n dicts of ``tokens`` int64 [k], or of ``text`` where the alphabet is
    known; or n texts, or tokens int64 [n, k].
    """

    name = "recognition"

    def __init__(
        self,
        data: TaskData | None = None,
        *,
        alphabet: str = "",
        blank_last: bool = False,
        steps_first: bool = False,
        metric: str = "words",
        ignore_case: bool = False,
    ) -> None:
        """Take batches of (inputs, lines), and what `RecognitionSettings` says of the rest."""
        if metric not in ("words", "characters", "both"):
            raise wrong_value("metric", "words, characters or both", metric)
        if ignore_case and not alphabet:
            raise PrunerError(
                "ignore_case: which characters are capitals the alphabet says; give it"
            )
        self.data, self.alphabet, self.blank_last = data, alphabet, blank_last
        self.steps_first, self.measure, self.ignore_case = steps_first, metric, ignore_case

    @classmethod
    def open(cls, request: TaskRequest) -> Recognition:
        """Open text lines (see `pruner.data.open_text_lines`)."""
        settings = request.read_settings(RecognitionSettings)
        task = cls(steps_first=settings.steps_first)
        scores = task.read(request.run())
        batch = len(request.inputs[0])
        if scores.ndim != 3 or len(scores) != batch:
            raise PrunerError(
                f"{request.network} is no recognizer by CTC: its scores are "
                f"{describe_shapes(scores)}, expected [{batch}, steps, characters + 1] (task entry "
                "steps_first where the steps come first)"
            )
        preprocessing = request.make_preprocessing(settings.mean, settings.std)
        alphabet = _find_alphabet(settings.alphabet)

        def open_folder(path: str) -> TaskData:
            return open_text_lines(
                path, preprocessing, alphabet=alphabet, blank_last=settings.blank_last,
                outputs=scores.shape[2], workers=settings.workers, on_error=settings.on_error,
            )  # fmt: skip

        data = request.open_data(open_folder, preprocessing, **settings.saved)
        known = alphabet or "".join(getattr(data, "classes", ()))
        if settings.metric != "words":
            load_torchmetrics()
        return cls(
            data, alphabet=known, blank_last=settings.blank_last,
            steps_first=settings.steps_first, metric=settings.metric,
            ignore_case=settings.ignore_case,
        )  # fmt: skip

    def settings(self) -> Mapping[str, Any]:
        """Return the alphabet and how outputs are read."""
        return {
            "alphabet": self.alphabet, "blank_last": self.blank_last,
            "steps_first": self.steps_first, "metric": self.measure,
            "ignore_case": self.ignore_case,
        }  # fmt: skip

    def read(self, results: Any) -> Tensor:
        """Take the scores, lines first."""
        if isinstance(results, list | tuple) and len(results) == 1:
            results = results[0]
        scores = extract_scores(results)
        return scores.transpose(0, 1) if self.steps_first and scores.ndim == 3 else scores

    def find_blank(self, scores: Tensor) -> int:
        """Return the number of CTC's blank."""
        return scores.shape[2] - 1 if self.blank_last else 0

    def list_tokens(self, targets: Any, scores: Tensor) -> list[Tensor]:
        """Return the tokens of every line, int64 [k]; PrunerError for a foreign character."""
        if isinstance(targets, Mapping):  # collated: each entry lists all lines
            key = "tokens" if "tokens" in targets else "text"
            return [self._encode(one, scores) for one in targets.get(key, ())]
        lines = targets if isinstance(targets, list | tuple | Tensor) else []
        return [
            self._encode(one.get("tokens", one.get("text")) if isinstance(one, Mapping) else one,
                         scores)
            for one in lines
        ]  # fmt: skip

    def _encode(self, line: Any, scores: Tensor) -> Tensor:
        if isinstance(line, Tensor):
            return line.to(scores.device)
        if not isinstance(line, str):
            raise PrunerError(
                f"a line's target is {describe_shapes(line)}: expected its text, or tokens int64 "
                "[k]"
            )
        if not self.alphabet:
            raise PrunerError(
                f"text {line!r} has no tokens, and there is no alphabet: give the task's setting "
                "alphabet"
            )
        numbers = [self.alphabet.find(character) for character in line]
        if -1 in numbers:
            raise PrunerError(f"text {line!r}: {line[numbers.index(-1)]!r} is not in the alphabet")
        first = 0 if self.blank_last else 1
        return torch.tensor(numbers, dtype=torch.int64, device=scores.device) + first

    def decode(self, tokens: Sequence[int]) -> str:
        """Return tokens as a text; without an alphabet one private character for each."""
        first = 0 if self.blank_last else 1
        if self.alphabet:
            text = "".join(self.alphabet[k - first] for k in tokens)
        else:
            text = "".join(chr(0xE000 + k) for k in tokens)
        return text.lower() if self.ignore_case else text

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean over lines of the loss a character, in nats."""
        return self.total_loss(outputs, targets).mean

    def total_loss(self, outputs: Any, targets: Any) -> Total:
        """Return the sum over lines of the loss a character, as torch's ``ctc_loss`` weighs it."""
        tokens = self.list_tokens(targets, outputs)
        losses = ctc_losses(outputs, tokens, self.find_blank(outputs))
        lengths = torch.tensor([max(len(one), 1) for one in tokens], device=outputs.device)
        return Total((losses / lengths).sum(), len(tokens))

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return KL(dense || outputs) of every step's characters."""
        return compare_scores(outputs, dense, temperature, axis=2)

    def metric(self) -> Metric:
        """Return the share of lines that are right, the characters' error rate, or both."""
        words = MeanMetric(WORDS, self._measure_words)
        if self.measure == "words":
            return words
        library = load_torchmetrics().text.CharErrorRate()
        characters = LibraryMetric(CHARACTERS, library, self._list_texts)
        return characters if self.measure == "characters" else GroupMetric([words, characters])

    def _list_texts(self, outputs: Any, targets: Any) -> tuple[list[str], list[str]]:
        found = find_best_path(outputs, self.find_blank(outputs))
        wanted = self.list_tokens(targets, outputs)
        return list(map(self.decode, found)), [self.decode(one.tolist()) for one in wanted]

    def _measure_words(self, outputs: Any, targets: Any) -> Tensor:
        found, wanted = self._list_texts(outputs, targets)
        right = [one == other for one, other in zip(found, wanted, strict=True)]
        return torch.tensor(right, dtype=torch.float64)

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse scores that are not [n, steps, characters + 1], and texts that do not fit them."""
        shape = describe_shapes(outputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 3:
            raise PrunerError(
                f"expected scores [n, steps, characters + 1], got {shape} from the network"
            )
        tokens = self.list_tokens(targets, outputs)
        if len(tokens) != len(outputs):
            raise PrunerError(
                f"{len(tokens)} texts do not fit scores {shape}: expected {len(outputs)} (task "
                "entry steps_first where the network's steps come first)"
            )
        blank, last = self.find_blank(outputs), outputs.shape[2] - 1
        first, most = (0, last - 1) if self.blank_last else (1, last)
        for one in tokens:
            if len(one) and (one.is_floating_point() or one.min() < first or one.max() > most):
                raise PrunerError(
                    f"tokens {one.tolist()[:8]} do not fit scores {shape}: expected whole numbers "
                    f"from {first} to {most}, and {blank} is CTC's blank"
                )
            if count_steps(one) > outputs.shape[1]:
                raise PrunerError(
                    f"a text of {len(one)} characters needs {count_steps(one)} steps, but the "
                    f"network's scores are {shape}: leave it out, or give a wider --input"
                )


def _find_alphabet(given: str | None) -> str | None:
    """Return the characters that a setting gives, itself or in a file."""
    if given is None:
        return None
    path = Path(given)
    try:
        is_file = path.is_file()
    except OSError:  # too long for a name
        is_file = False
    return read_alphabet(path) if is_file else given
