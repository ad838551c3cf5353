"""Plain computations beside the engine's: a state dict, a model, a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.engine import Trained

CNN = "{cnn: {width: 4}}"
LINEAR = "linear"
BIAS_FREE = "{mlp: {hidden: [24, 24], bias: false, dropout: 0}}"


def row(
    pool: Trained, method: str, *subset: int, batch: int = 256, scaling: str = "none", **settings: Any
) -> dict[str, Any]:
    outcome, _ = pool.evaluator(batch).evaluate(
        pool.candidate(method, *subset, scaling=scaling, **settings), ("test",)
    )[0]
    assert outcome["status"] == "ok", outcome["error"]
    return outcome


def plain_mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


@torch.no_grad()
def plain_logits(pool: Trained, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    images, labels = pool.test_split()
    return pool.model(state)(images), labels


def plain_scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    right = float((logits.argmax(1) == labels).float().mean())
    return right, float(torch.nn.functional.cross_entropy(logits.double(), labels))


def assert_scores(outcome: dict[str, Any], logits: Tensor, labels: Tensor) -> None:
    accuracy, cross_entropy = plain_scores(logits, labels)
    assert outcome["accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert outcome["cross_entropy"] == pytest.approx(cross_entropy, abs=1e-5)
