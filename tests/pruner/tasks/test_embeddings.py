"""Retrieval and embedding: losses and metrics against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from pruner.errors import PrunerError
from pruner.tasks import Embedding, Retrieval
from pruner.tasks.retrieval import measure_recall


def draw(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(4)
    image = torch.randn(count, 6, generator=rng)
    return image, image + 0.8 * torch.randn(count, 6, generator=rng)


def test_the_loss_is_contrastive_and_pairs_may_share() -> None:
    image, text = draw()
    task, rows = Retrieval(temperature=0.1), torch.arange(12)
    outputs = task.read((image, text))
    scores = normalize(image, dim=1) @ normalize(text, dim=1).T / 0.1
    expected = (cross_entropy(scores, rows) + cross_entropy(scores.T, rows)) / 2
    assert task.mean_loss(outputs, rows) == pytest.approx(expected.item(), rel=1e-5)
    own = task.read({"image_embeds": image, "text_embeds": text, "logits_per_image": scores})
    assert task.mean_loss(own, {"image": rows, "text": []}) == pytest.approx(expected.item())
    shared = torch.tensor([0, 0, *range(1, 11)])
    logs = scores.log_softmax(1), scores.T.log_softmax(1)
    same = (shared[:, None] == shared).float()
    both = [-(x * same / same.sum(1, keepdim=True)).sum(1).mean() for x in logs]
    found = task.mean_loss(outputs, shared)
    assert found == pytest.approx(float(both[0] + both[1]) / 2, rel=1e-5)
    far = task.divergence(outputs, task.read((-image, text)))
    assert far.mean == pytest.approx(4, rel=1e-4)  # opposite in one tower, the same in the other


@pytest.mark.parametrize("k", [1, 3])
def test_recall_is_over_the_whole_set(k: int) -> None:
    image, text = (normalize(x, dim=1) for x in draw())
    numbers = torch.tensor([5, 5, 5, 2, 2, 7, 8, 9, 1, 3, 4, 6])
    image = image[[0, 0, 0, 3, 3, *range(5, 12)]]
    names = sorted({*numbers.tolist()})
    gallery = torch.stack([image[numbers == n][0] for n in names])
    scores = (text @ gallery.T).numpy()
    nearest = np.argsort(-scores, 1)[:, :k]
    texts = np.mean([names.index(int(n)) in row for n, row in zip(numbers, nearest)])
    nearest = np.argsort(-scores, 0)[:, :]
    hits = []
    for column, name in enumerate(names):
        others = [scores[:, column][r] for r in nearest[:, column] if numbers[r] != name]
        best = max(scores[r, column] for r in range(12) if numbers[r] == name)
        hits.append(sum(x >= best for x in others) < k)
    both = (texts + np.mean(hits)) / 2
    assert measure_recall(image, text, numbers, k) == pytest.approx(both)
    assert measure_recall(image, text, numbers, k, "text_to_image") == pytest.approx(texts)
    metric, part = Retrieval(k=k).metric(), Retrieval(k=k).metric()
    metric.update({"image": image[:5], "text": text[:5]}, numbers[:5])
    part.update({"image": image[5:], "text": text[5:]}, numbers[5:])
    metric.merge(part.state())
    assert metric.compute() == pytest.approx(both) and metric.kind.key == f"recall_{k}"
    alike = torch.ones(12, 6)
    assert measure_recall(alike, alike, torch.arange(12), k) == 0


def test_embeddings_are_pooled_compared_and_ranked() -> None:
    rng = torch.Generator().manual_seed(5)
    tokens = torch.randn(4, 3, 6, generator=rng)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
    task = Embedding()
    found = task.take_vectors({"last_hidden_state": tokens, "pooler_output": tokens[:, 0]}, mask)
    assert torch.allclose(found[0], tokens[0, :2].mean(0)) and torch.equal(found[1], tokens[1, 0])
    assert torch.allclose(task.take_vectors(tokens, None), tokens.mean(1))
    assert torch.equal(Embedding(pool="first").take_vectors((tokens,), mask), tokens[:, 0])
    assert torch.equal(Embedding(output=1).take_vectors((tokens, tokens[:, 1]), mask), tokens[:, 1])
    with pytest.raises(PrunerError, match="expected embeddings"):
        task.take_vectors((tokens, tokens), mask)
    assert task.divergence(2 * found, found).mean == pytest.approx(0, abs=1e-6)
    cosine = torch.nn.functional.cosine_similarity(found, found.flip(0), dim=1)
    assert task.divergence(found, found.flip(0)).mean == pytest.approx(
        float((2 - 2 * cosine).mean()), rel=1e-5
    )
    from scipy.stats import spearmanr

    dense = torch.randn(4, 6, generator=rng)
    metric = task.metric()
    metric.update(found[:1], dense[:1])
    metric.update(found[1:], dense[1:])
    upper = np.triu_indices(4, 1)
    sides = [(normalize(x, dim=1) @ normalize(x, dim=1).T).numpy()[upper] for x in (found, dense)]
    assert metric.compute() == pytest.approx(spearmanr(*sides)[0], abs=1e-6)
    assert metric.needs_dense and not task.has_loss
    with pytest.raises(PrunerError, match="no pairs to rank"):
        few = task.metric()
        few.update(found[:2], dense[:2])
        few.compute()


def test_targets_that_do_not_fit_are_said() -> None:
    task = Retrieval()
    outputs = task.read(draw())
    for wrong, words in (
        (None, "say no numbers of images"),
        (torch.rand(12), "numbers of images"),
        (torch.arange(3), "numbers of images"),
    ):
        with pytest.raises(PrunerError, match=words):
            task.check(outputs, wrong)
    with pytest.raises(PrunerError, match="one width"):
        task.check({**outputs, "text": torch.zeros(12, 4)}, torch.arange(12))
    with pytest.raises(PrunerError, match="expected embeddings"):
        task.read(torch.zeros(3, 4))
