"""Claims on templates: contrasts of trainings against plain computations, and errors for missing rows."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.mixup_sharpens_templates import mixup_sharpens_templates
from analysis.claims.resemblance_grows_with_decay import resemblance_grows_with_decay
from analysis.claims.seeds_agree import seeds_agree
from analysis.claims.templates_resemble_means import templates_resemble_means
from analysis.core.errors import NothingToDrawError
from analysis.report.claims import answers, lines
from analysis.rows.run import Run
from tests.helpers import model_rows, rows

POOLS = 4
CLASSES = 3


def trained(scores: list[list[float]], **training: Any) -> pd.DataFrame:
    """Members of one training whose T is `scores[pool][member]`; correlations elsewhere are -0.1."""
    settings = {"weight_decay": 0.01, "mixup": 0.0, "labels": "true", "input": "pixels"} | training
    name = ",".join(f"{key}={value}" for key, value in settings.items())
    made = []
    for pool, members in enumerate(scores):
        for member, score in enumerate(members):
            row = rows.templates(pools=1, members=1, classes=1)[0] | model_rows.about(pool, (member,), name) | settings
            for a, b in itertools.product(range(CLASSES), repeat=2):
                value = score - 0.1 if a == b else -0.1
                agreement = 0.9 + 0.01 * pool if a == b else None
                made.append(row | {"template_class": a, "mean_class": b, "correlation": value, "agreement": agreement})
    return rows.frame(made, "templates")


def drawn(mean: float, seed: int) -> list[list[float]]:
    return (mean + 0.05 * np.random.default_rng(seed).standard_normal((POOLS, 2))).tolist()


def pools_of(scores: list[list[float]]) -> np.ndarray:
    return np.mean(scores, axis=1)


def test_true_against_shuffled_labels_is_welch_on_pool_means() -> None:
    true = drawn(0.9, 0)
    shuffled = drawn(0.6, 1)
    frame = pd.concat([trained(true), trained(shuffled, labels="shuffled")])
    found = templates_resemble_means(frame, margin=0.01)
    reference = stats.ttest_ind(pools_of(true), pools_of(shuffled), equal_var=False)
    interval = reference.confidence_interval(0.95)
    reported = (found.estimate.estimate, found.estimate.low, found.estimate.high, found.estimate.p)
    difference = pools_of(true).mean() - pools_of(shuffled).mean()
    assert reported == pytest.approx((difference, interval.low, interval.high, reference.pvalue))
    assert (found.expected, found.figure, found.estimate.n_units) == ("above", "patterns", 2 * POOLS)


def test_only_trainings_that_differ_in_nothing_else_are_compared() -> None:
    parts = [
        trained(drawn(0.9, 0), weight_decay=0.1),
        trained(drawn(0.6, 1), weight_decay=0.1, labels="shuffled"),
        trained(drawn(0.7, 2), weight_decay=0.0),
        trained(drawn(0.5, 3), weight_decay=0.0, labels="shuffled"),
        trained(drawn(0.1, 4), weight_decay=1.0),  # no control
        trained(drawn(0.1, 5), weight_decay=0.1, mixup=1.0),
        trained(drawn(0.1, 6), weight_decay=0.1, labels="shuffled", input="features"),
    ]
    found = templates_resemble_means(pd.concat(parts))
    means = [pools_of(drawn(mean, seed)).mean() for mean, seed in ((0.9, 0), (0.6, 1), (0.7, 2), (0.5, 3))]
    assert found.estimate.estimate == pytest.approx((means[0] - means[1] + means[2] - means[3]) / 2)
    assert found.estimate.n_units == 4 * POOLS


def test_mixup_is_compared_at_equal_weight_decay() -> None:
    plain = drawn(0.9, 0)
    mixed = drawn(0.8, 1)
    parts = [trained(plain), trained(mixed, mixup=0.4), trained(drawn(0.1, 2), mixup=0.4, weight_decay=1.0)]
    found = mixup_sharpens_templates(pd.concat(parts))
    assert found.estimate.estimate == pytest.approx(pools_of(mixed).mean() - pools_of(plain).mean())
    assert found.estimate.high < 0


def test_a_difference_that_depends_on_weight_decay_is_no_general_one() -> None:
    parts = []
    for decay, gap in ((0.01, 0.4), (0.1, 0.4), (1.0, 0.0)):
        scores = [[0.9 + 0.002 * pool, 0.9] for pool in range(6)]
        parts.append(trained(scores, weight_decay=decay))
        parts.append(trained([[s - gap for s in own] for own in scores], weight_decay=decay, mixup=1.0))
    tables = {"templates": pd.concat(parts), "candidates": rows.frame([]), "members": rows.frame([], "members")}
    run = Run(Path("runs/made"), {}, "", tables)
    (found,) = (one for one in answers(run) if one.name == "mixup_sharpens_templates")
    assert found.verdict == "depends on"
    assert found.by_cell is not None
    assert found.by_cell.depends == ("training",)
    assert "weight_decay 0.01 below zero; weight_decay 0.1 below zero" in found.by_cell.scope
    assert "weight_decay 1.0 within the margin" in found.by_cell.scope
    assert "\N{MINUS SIGN}40.00 to 0.00 hundredths of T by training" in "\n".join(lines([found]))
    assert found.simultaneous is None


def test_the_middle_of_a_slope_counts() -> None:
    parts = [trained(drawn(0.5, seed), weight_decay=decay) for seed, decay in enumerate((0.01, 0.1, 1.0))]
    assert resemblance_grows_with_decay(pd.concat(parts)).estimate.n_units == 3 * POOLS


def test_the_dose_response_is_the_slope_of_pool_means() -> None:
    doses = [1e-3, 1e-2, 1e-1, 1.0]
    made = {dose: drawn(0.8 + 0.05 * np.log10(dose), seed) for seed, dose in enumerate(doses)}
    parts = [trained(scores, weight_decay=dose) for dose, scores in made.items()]
    parts += [trained(drawn(0.1, 9), weight_decay=0.0), trained(drawn(0.1, 8), weight_decay=1.0, labels="shuffled")]
    found = resemblance_grows_with_decay(pd.concat(parts))
    slope = stats.linregress(np.log10(doses), [pools_of(made[dose]).mean() for dose in doses]).slope
    assert found.estimate.estimate == pytest.approx(slope)
    spread = sum(
        (x / 5) ** 2 * pools_of(made[dose]).var(ddof=1) / POOLS
        for x, dose in zip((-1.5, -0.5, 0.5, 1.5), doses, strict=True)
    )
    assert found.estimate.se == pytest.approx(np.sqrt(spread))


def test_a_slope_at_the_ceiling_is_not_asked() -> None:
    """With three classes T is at most 3/2; correlations here make it 1.5 and a hundredth less."""
    doses = {0.01: 1.49, 0.1: 1.5, 1.0: 1.495}
    top = [trained([[value]] * POOLS, weight_decay=dose) for dose, value in doses.items()]
    with pytest.raises(NothingToDrawError, match="within 3% of its largest value at every weight decay"):
        resemblance_grows_with_decay(pd.concat(top))
    falls = [*top[:2], trained([[0.9]] * POOLS, weight_decay=1.0)]
    found = resemblance_grows_with_decay(pd.concat(falls)).estimate
    assert found.estimate < 0
    assert any("at the smallest weight decay in 1 of 1 families" in text for text in found.warnings)
    grows = [trained([[0.9]] * POOLS, weight_decay=0.001), *top]
    warnings = resemblance_grows_with_decay(pd.concat(grows)).estimate.warnings
    assert not any("largest value" in text for text in warnings)


def test_agreement_is_that_of_single_classifiers_on_true_labels() -> None:
    parts = [trained(drawn(0.9, 0)), trained(drawn(0.9, 1), labels="shuffled"), trained(drawn(0.9, 2), mixup=1.0)]
    found = seeds_agree(pd.concat(parts))
    assert found.estimate.estimate == pytest.approx(0.01 * np.mean(range(POOLS)))
    assert found.estimate.n_units == POOLS


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (templates_resemble_means, "differ in `labels` alone"),
        (mixup_sharpens_templates, "differ in `mixup` alone"),
        (resemblance_grows_with_decay, "no two weight decays above 0"),
    ],
)
def test_one_training_alone_says_what_is_missing(claim: Any, message: str) -> None:
    with pytest.raises(NothingToDrawError, match=message):
        claim(trained(drawn(0.9, 0)))
    with pytest.raises(NothingToDrawError, match="no templates of linear classifiers"):
        claim(trained(drawn(0.9, 0), input="features"))
