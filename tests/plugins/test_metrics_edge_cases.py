"""Metrics against scikit-learn, ties, and numbers that are none."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sweep.core.provenance import determinism_settings, versions
from sweep.model.metrics import compute_metrics
from sweep.plugins.metrics.accuracy import accuracy

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def made(examples: int, classes: int, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(examples, classes, generator=generator)
    return logits, torch.randint(classes, (examples,), generator=generator)


@pytest.mark.parametrize(("classes", "spread"), [(2, 1.0), (10, 3.0), (100, 0.1), (10, 200.0)])
def test_metrics_are_those_of_scikit_learn(classes: int, spread: float) -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

    examples = 1500
    bins = 15
    logits, labels = made(examples, classes, spread, classes)
    found = compute_metrics(logits, labels, ("accuracy", "cross_entropy", "brier", "ece_mass"))
    chances = logits.double().softmax(-1).numpy()
    every = list(range(classes))
    assert found["accuracy"] == accuracy_score(labels, chances.argmax(1))
    if chances.min() > 1e-12:  # beyond, scikit-learn clips
        assert found["cross_entropy"] == pytest.approx(log_loss(labels, chances, labels=every), rel=1e-9)
    wanted = brier_score_loss(labels, chances, labels=every, scale_by_half=False)
    assert found["brier"] == pytest.approx(wanted, rel=1e-9)
    confidence = chances.max(1)
    if len(np.unique(confidence)) == examples:  # then quantiles and ranks make the same bins
        right = chances.argmax(1) == labels.numpy()
        share, mean = calibration_curve(right, confidence, n_bins=bins, strategy="quantile")
        assert found["ece_mass"] == pytest.approx(np.abs(share - mean).mean(), rel=1e-9)


@given(st.integers(0, 10**6), st.floats(0.01, 30))
@settings(max_examples=50, deadline=None)
def test_single_precision_gives_the_metrics_of_double(seed: int, spread: float) -> None:
    logits, labels = made(200, 10, spread, seed)
    names = ("accuracy", "cross_entropy", "brier", "ece", "ece_mass")
    assert compute_metrics(logits, labels, names) == compute_metrics(logits.double(), labels, names)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("classes", [2, 3, 10, 17, 64, 100, 200, 1000, 4097])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_lowest_class_wins_a_tie(classes: int, dtype: torch.dtype, device: str) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randint(0, 3, (500, classes), generator=generator).to(dtype).to(device)
    wanted = torch.tensor(np.argmax(logits.cpu().double().numpy(), axis=1))  # numpy says: the first
    for each in (logits, logits.T.contiguous().T, torch.cat([logits, logits], 1)[:, :classes]):
        assert torch.equal(each.argmax(-1).cpu(), wanted)  # what torch promises of both on every device
        assert torch.equal(each.max(1).indices.cpu(), wanted)
        assert accuracy(each, wanted.to(device)) == 1.0


def test_what_can_move_a_bit_is_known() -> None:
    found = versions()
    for name in ("torch", "numpy", "scipy", "scikit-learn", "pillow", "timm", "torchvision"):
        assert found[name] == importlib.metadata.version(name)
    assert determinism_settings()["cpu_capability"]
