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
from sweep.plugins.metrics.ece_mass import ece_mass


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


@pytest.mark.parametrize(("examples", "classes"), [(7, 3), (450, 4), (3000, 10)])
def test_ece_is_that_of_the_papers(examples: int, classes: int) -> None:
    """Guo et al. 2017: bin m holds the confidences in ((m - 1) / 15, m / 15]."""
    logits, labels = drawn(examples, classes)
    probabilities = logits.softmax(-1)
    rows = probabilities.tolist()
    expected = 0.0
    for m in range(1, 16):
        own = [i for i in range(examples) if (m - 1) / 15 < max(rows[i]) <= m / 15]
        if own:
            right = sum(rows[i].index(max(rows[i])) == int(labels[i]) for i in own) / len(own)
            mean = sum(max(rows[i]) for i in own) / len(own)
            expected += len(own) / examples * abs(right - mean)
    assert ece(probabilities, labels) == pytest.approx(expected, rel=1e-9)


def test_ece_of_certainty_and_of_one_bin() -> None:
    certain = torch.eye(4, dtype=torch.float64)
    assert ece(certain, torch.tensor([0, 1, 2, 0])) == 0.25
    # All of them in (9/15, 10/15]: 10 examples are right of 40 that say .65.
    probabilities = torch.tensor([[0.65, 0.35]], dtype=torch.float64).expand(40, 2)
    assert ece(probabilities, torch.tensor([0] * 10 + [1] * 30)) == pytest.approx(0.4)


def test_the_two_errors_differ_where_confidences_lie_in_few_bins_of_width() -> None:
    """Half of the examples with .95 are all right, half with .97 all wrong: one bin of width, but two of mass."""
    probabilities = torch.tensor([[0.95, 0.05]] * 50 + [[0.97, 0.03]] * 50, dtype=torch.float64)
    labels = torch.tensor([0] * 50 + [1] * 50)
    assert ece(probabilities, labels) == pytest.approx(0.46)
    assert ece_mass(probabilities, labels) == pytest.approx((0.05 + 0.97) / 2)


def test_ece_mass_against_a_loop_over_bins() -> None:
    logits, labels = drawn(examples=450)
    probabilities = logits.softmax(-1)
    confidence, predicted = probabilities.max(1)
    order = np.argsort(confidence.numpy(), kind="stable")
    right = (predicted == labels).numpy()[order]
    expected = sum(
        abs(right[part].mean() - confidence.numpy()[order][part].mean()) * len(part) / 450
        for part in np.split(np.arange(450), 15)
    )
    assert ece_mass(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_equal_confidences_share_a_bin() -> None:
    """With one bin of ten each, the order of ties would decide."""
    labels = torch.tensor([0, 1] * 150)
    probabilities = torch.tensor([[0.6, 0.4]], dtype=torch.float64).expand(300, 2)
    assert ece_mass(probabilities, labels) == pytest.approx(0.1)


@pytest.mark.parametrize("name", list_plugins("metrics"))
def test_the_order_of_examples_changes_no_metric(name: str) -> None:
    logits, labels = drawn()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
    first = compute_metrics(logits, labels, [name])
    second = compute_metrics(logits[order], labels[order], [name])
    assert first[name] == pytest.approx(second[name], rel=1e-12)


def test_the_lower_class_wins_a_tie() -> None:
    assert accuracy(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2])) == 0.5
