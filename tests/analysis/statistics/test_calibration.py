"""Calibration before and after temperature scaling: values by hand, and warnings for rows that are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from analysis.core.errors import NothingToDrawError
from analysis.figures.calibration import calibration as calibration_figure
from analysis.figures.diversity import diversity as diversity_figure
from analysis.inference import reliability
from analysis.statistics.calibration import QUANTITIES, TEMPERED, calibration
from sweep.plugins.metrics.ece import ece as ece_of_sweep
from sweep.plugins.metrics.ece_mass import ece_mass as ece_mass_of_sweep
from tests.helpers import rows
from tests.helpers.predictions import (
    CLASSES_A,
    RIGHT_A,
    as_read,
    both,
    by_label,
    plain_debiased,
    prediction,
    probabilistic_prediction,
    singles,
    some_logits,
)


def test_calibration_by_hand() -> None:
    candidates = [*singles(0, 2), *singles(1, 1)]
    factor = 3.0
    found = by_label(calibration, candidates, both(candidates, factor))
    levels: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for seed in range(3):
        tune, test = (some_logits(600, 4, 2 * seed + k) for k in (0, 1))
        fitted = reliability.temperature(as_read(factor * tune[0]), tune[1])
        levels["temperature"].append(fitted)
        for suffix, divisor in (("", 1.0), (" after temperature", fitted)):
            log_p = log_softmax(as_read(factor * test[0]) / divisor, axis=1)
            levels["cross_entropy" + suffix].append(log_loss(test[1], np.exp(log_p), labels=range(4)))
            levels["debiased CE²" + suffix].append(plain_debiased(log_p, test[1]))
            tensors = torch.from_numpy(np.exp(log_p)), torch.from_numpy(test[1])
            levels["ECE" + suffix].append(ece_of_sweep(*tensors))
            levels["ECE of equal mass" + suffix].append(ece_mass_of_sweep(*tensors))
    for name, (a, b, c) in levels.items():
        assert found["single", 1, name].estimate == pytest.approx(((a + b) / 2 + c) / 2, rel=1e-6), name
        assert found["single", 1, name].n_units == 2
    assert (
        found["single", 1, "debiased CE²"].estimate > 10 * found["single", 1, "debiased CE² after temperature"].estimate
    )
    assert found["single", 1, "ECE"].consistency_p == pytest.approx(1.5 / 200)
    assert found["single", 1, "ECE after temperature"].consistency_p > 0.05
    assert np.isnan(found["single", 1, "cross_entropy"].consistency_p)


def test_the_seed_alone_decides_the_draws() -> None:
    candidates = singles(0, 1)
    made = both(candidates, 2.0)  # sharpened so, these logits are calibrated
    first, again, other = (
        by_label(calibration, candidates, made, seed=seed)["single", 1, "ECE"].consistency_p for seed in (0, 0, 1)
    )
    assert first == again != other


def test_without_a_validation_split_nothing_is_tuned_and_a_warning_says_so() -> None:
    tuned = singles(0, 1)
    untuned = [rows.candidate(0, (0, 1), "uniform_soup")]
    made = [
        row
        for row in both([*tuned, *untuned])
        if row["candidate_id"] == tuned[0]["candidate_id"] or row["split"] == "test"
    ]
    found = by_label(calibration, [*tuned, *untuned], made)
    assert [key[2] for key in found if key[0] == "single"] == list(QUANTITIES)
    assert [key[2] for key in found if key[0] == "uniform_soup"] == [n for n in QUANTITIES if n not in TEMPERED]
    what = "nothing after temperature: no log-probabilities of the validation split"
    assert all((what in row.warnings) == (key[0] == "uniform_soup") for key, row in found.items())


def test_what_cannot_be_tuned_is_left_out_and_counted() -> None:
    candidates = [*singles(0, 3), *singles(1, 1)]
    made = [
        row
        for row in both(candidates)
        if row["candidate_id"] != candidates[1]["candidate_id"] or row["split"] == "test"
    ]
    sure = some_logits(600, 4, 5, sharpness=50.0)
    made = [row for row in made if row["candidate_id"] != candidates[2]["candidate_id"]]
    made += [probabilistic_prediction(candidates[2], *sure, split) for split in ("test", "validation")]
    found = by_label(calibration, candidates, made)
    after = found["single", 1, "temperature"].warnings
    assert "1 row left out: no log-probabilities of the validation split" in after
    assert "1 row left out: no temperature between 0.01 and 100 is best" in after
    assert not [text for text in found["single", 1, "ECE"].warnings if "left out" in text]


def test_a_temperature_is_not_judged_where_it_was_fitted() -> None:
    (one,) = singles(0, 1)
    candidates = [one, one | {"split": "validation"}]
    by = ("split", "label", "n_members")
    frames = rows.frame(candidates), rows.frame(both([one]), "predictions")
    found = calibration(*frames, by=by)
    assert set(found.loc[found["split"] == "test", "quantity"]) == set(QUANTITIES)
    assert not set(found.loc[found["split"] == "validation", "quantity"]) & set(TEMPERED)


def test_the_error_without_probabilities_names_the_setting() -> None:
    candidates = singles()
    made = [prediction(row, RIGHT_A, CLASSES_A) for row in candidates]
    for ask in (calibration, calibration_figure):
        with pytest.raises(NothingToDrawError, match=r"no log-probabilities\nhint: .*execution\.probabilities=true"):
            ask(rows.frame(candidates), rows.frame(made, "predictions"))
    partly = by_label(calibration, candidates, [made[0], *both(candidates)[2:]])
    assert "1 row left out: no log-probabilities" in partly["single", 1, "ECE"].warnings
    with pytest.raises(NothingToDrawError, match="no predictions"):
        diversity_figure(rows.frame(candidates), rows.frame([], "predictions"))


def test_a_margin_is_that_of_the_debiased_error() -> None:
    candidates = [row for pool in range(3) for row in singles(pool, 1)]
    found = by_label(calibration, candidates, both(candidates, 3.0), margin=0.5)
    assert found["single", 1, "debiased CE²"].verdict == "equivalent"
    assert found["single", 1, "debiased CE²"].margin == 0.5
    assert {row.margin for key, row in found.items() if not key[2].startswith("debiased")} == {None}
