"""Rows of `predictions` made by hand, results of a statistic by label, and plain computations for comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax

from tests.helpers import rows

Row = dict[str, Any]


def prediction(candidate: Row, right: list[int], classes: list[int], **values: Any) -> Row:
    """A row of `predictions` without probabilities."""
    row = {"candidate_id": candidate["candidate_id"], "split": "test", "n_examples": len(right)}
    kind = np.uint8 if max(classes) < 256 else "<u2"
    packed = {"correct": np.packbits(right).tobytes(), "classes": np.array(classes, kind).tobytes()}
    return row | packed | values


def probabilistic_prediction(candidate: Row, logits: np.ndarray, labels: np.ndarray, split: str = "test") -> Row:
    """A row of `predictions` with probabilities."""
    log_p = log_softmax(logits, axis=1)
    predicted = logits.argmax(1)
    packed = {"labels": labels.astype(np.uint8).tobytes(), "log_probabilities": log_p.astype("<f2").tobytes()}
    return prediction(candidate, (predicted == labels).tolist(), predicted.tolist(), split=split, **packed)


def by_label(
    statistic: Any, candidates: list[Row], predictions: list[Row], **settings: Any
) -> dict[tuple[str, int, str], Any]:
    """Its rows by label (or nothing), size and quantity."""
    found = statistic(rows.frame(candidates), rows.frame(predictions, "predictions"), **settings)
    label = found["label"] if "label" in found else [""] * len(found)
    keys = zip(label, found["n_members"], found["quantity"], strict=True)
    return dict(zip(keys, found.itertuples(), strict=True))


def singles(pool: int = 0, count: int = 2, **values: Any) -> list[Row]:
    return [rows.candidate(pool, (index,), "single", **values) for index in range(count)]


RIGHT_A = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
RIGHT_B = [1, 1, 1, 1, 1, 0, 0, 1, 0, 0]
CLASSES_A = [0, 1, 2, 0, 1, 2, 0, 9, 9, 8]
CLASSES_B = [0, 1, 2, 0, 1, 9, 9, 1, 9, 7]


def some_logits(n: int, classes: int, seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    return random.standard_normal((n, classes)) + sharpness * np.eye(classes)[labels], labels


def as_read(logits: np.ndarray) -> np.ndarray:
    """Logits as stored in the tables: log-probabilities in half precision, read in double precision."""
    return log_softmax(log_softmax(logits, axis=1).astype("<f2").astype(float), axis=1)


def plain_debiased(log_p: np.ndarray, labels: np.ndarray) -> float:
    """The definition, bin by bin."""
    confidence = np.exp(log_p.max(1))
    right = log_p.argmax(1) == labels
    below = np.array([(confidence < value).sum() for value in confidence])
    total = 0.0
    for number in range(15):
        own = below * 15 // len(labels) == number
        if own.sum() > 1:
            accuracy = right[own].mean()
            chance = accuracy * (1 - accuracy) / (own.sum() - 1)
            total += own.mean() * ((accuracy - confidence[own].mean()) ** 2 - chance)
    return float(total)


def both(candidates: list[Row], factor: float = 1.0, n: int = 600) -> list[Row]:
    """Predictions on both splits, every candidate with logits of its own, sharpened by a factor."""
    made = []
    for seed, candidate in enumerate(candidates):
        for split in ("test", "validation"):
            logits, labels = some_logits(n, 4, 2 * seed + (split == "test"))
            made.append(probabilistic_prediction(candidate, factor * logits, labels, split))
    return made
