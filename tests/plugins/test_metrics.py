"""Metrics against scikit-learn and plain loops, whatever the order of examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor

from sweep.core.registry import list_plugins
from sweep.model.metrics import compute_metrics
from sweep.plugins.metrics.accuracy import accuracy
from sweep.plugins.metrics.ece import ece


def drawn(examples: int = 400, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(examples, classes, generator=generator, dtype=torch.float64) * 2
    return logits, torch.randint(classes, (examples,), generator=generator)


def test_metrics_against_scikit_learn() -> None:
    logits, labels = drawn()
    found = compute_metrics(logits, labels, list_plugins("metrics"))
    probabilities = logits.softmax(-1).numpy()
    assert found["cross_entropy"] == pytest.approx(log_loss(labels, probabilities), rel=1e-12)
    assert found["accuracy"] == float((probabilities.argmax(1) == labels.numpy()).mean())
    by_class = [brier_score_loss(labels.numpy() == c, probabilities[:, c]) for c in range(4)]
    assert found["brier"] == pytest.approx(sum(by_class), rel=1e-12)


def test_ece_against_a_loop_over_bins() -> None:
    logits, labels = drawn(examples=450)
    probabilities = logits.softmax(-1)
    confidence, predicted = probabilities.max(1)
    order = np.argsort(confidence.numpy(), kind="stable")
    right = (predicted == labels).numpy()[order]
    expected = sum(
        abs(right[part].mean() - confidence.numpy()[order][part].mean()) * len(part) / 450
        for part in np.split(np.arange(450), 15)
    )
    assert ece(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_equal_confidences_share_a_bin() -> None:
    """With one bin of ten each, the order of ties would decide."""
    labels = torch.tensor([0, 1] * 150)
    probabilities = torch.tensor([[0.6, 0.4]], dtype=torch.float64).expand(300, 2)
    assert ece(probabilities, labels) == pytest.approx(0.1)


@pytest.mark.parametrize("name", list_plugins("metrics"))
def test_the_order_of_examples_changes_no_metric(name: str) -> None:
    logits, labels = drawn()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
    first = compute_metrics(logits, labels, [name])
    second = compute_metrics(logits[order], labels[order], [name])
    assert first[name] == pytest.approx(second[name], rel=1e-12)


def test_the_lower_class_wins_a_tie() -> None:
    assert accuracy(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2])) == 0.5
