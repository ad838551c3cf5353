"""Paths between two members: barriers by hand, and halves that are independent."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.run import load
from analysis.statistics.path import QUANTITIES, path
from analysis.statistics.path_split_half import path_split_half
from analysis.statistics.stages import stages
from tests.helpers import rows
from tests.helpers.interpolations import line


def measures(losses: dict[float, float]) -> list[float]:
    found = path(rows.frame(line(losses))).set_index("quantity")["estimate"]
    return [float(found[name]) for name in QUANTITIES]


def test_barriers_by_hand() -> None:
    # The chord runs from 1 to 2: 1.25, 1.5 and 1.75 at the interior weights.
    np.testing.assert_allclose(measures({0: 1, 0.25: 1.75, 0.5: 1.7, 0.75: 1.5, 1: 2}), [0.5, 0.0, 0.5, 0.2])
    # A valley: no barrier, and the signed gap is the least negative of -0.25, -0.8 and -0.35.
    np.testing.assert_allclose(measures({0: 1, 0.25: 1.0, 0.5: 0.7, 0.75: 1.4, 1: 2}), [0.0, 0.0, -0.25, -0.8])
    # A hill beyond the worse end.
    np.testing.assert_allclose(measures({0: 1, 0.25: 2.2, 0.5: 2.1, 0.75: 2.0, 1: 2}), [0.95, 0.2, 0.95, 0.6])


def test_four_measures_are_those_of_a_plain_loop_over_pairs() -> None:
    random = np.random.default_rng(5)
    made = []
    weights = np.linspace(0, 1, 9)
    expected = np.zeros((3, 4))
    for pool in range(3):
        own = []
        for pair in itertools.combinations(range(4), 2):
            loss = random.normal(1, 0.3, 9)
            made += line(dict(zip(weights.tolist(), loss.tolist(), strict=True)), pool, members=pair)
            gap = loss - np.interp(weights, [0, 1], [loss[0], loss[-1]])
            own.append([max(gap), max(loss) - max(loss[0], loss[-1]), max(gap[1:-1]), gap[4]])
        expected[pool] = np.mean(own, axis=0)
    found = (
        path(rows.frame(made).sample(frac=1, random_state=0), margin=0.1).set_index("quantity").loc[list(QUANTITIES)]
    )
    np.testing.assert_allclose(found["estimate"], expected.mean(axis=0))
    interval = stats.ttest_1samp(expected, 0, axis=0).confidence_interval(0.95)
    np.testing.assert_allclose(found[["low", "high"]].to_numpy(float).T, [interval.low, interval.high])
    assert found["p"].iloc[:3].isna().all()
    assert found["p"].iloc[3] == pytest.approx(stats.ttest_1samp(expected[:, 3], 0).pvalue)
    assert found["verdict"].map(bool).tolist() == [False, False, False, True]


def test_the_barrier_of_accuracy_is_in_error() -> None:
    made = line({0: 1, 0.5: 1, 1: 1})
    for row, accuracy in zip(made, (0.9, 0.6, 0.8), strict=True):
        row["accuracy"] = accuracy
    np.testing.assert_allclose(path(rows.frame(made), metric="accuracy")["estimate"], [0.25, 0.2, 0.25, 0.25])


def test_a_path_that_cannot_be_measured_is_counted() -> None:
    whole = line({0: 1, 0.5: 3, 1: 1})
    endless = line({0.25: 1, 0.5: 3}, pool=1)
    found = path(rows.frame(whole + endless)).iloc[0]
    assert (found["estimate"], found["n_units"]) == (2.0, 1)
    assert found["warnings"][0] == "1 pair left out: no ends"
    hollow = path(rows.frame(line({0: 1, 1: 3}) + line({0: 1, 0.5: 3, 1: 1}, pool=1))).iloc[0]
    assert hollow["warnings"][0] == "1 pair left out: no interior point"
    off = path(rows.frame(line({0: 1, 0.4: 3, 1: 1}))).set_index("quantity")
    assert off["n_units"].tolist() == [1, 1, 1, 0]


def test_points_beyond_the_members_change_no_measure() -> None:
    within = line({0: 1, 0.5: 3, 1: 1})
    beyond = line({-1: 90, -0.5: 0, 1.5: 0, 2: 90})
    pd.testing.assert_frame_equal(path(rows.frame(beyond + within)), path(rows.frame(within)))
    with pytest.raises(NothingToDrawError, match="no rows of `interpolation` with a weight from 0 to 1"):
        path(rows.frame(beyond))


def test_an_interpolation_without_its_weight_is_refused() -> None:
    made = rows.frame(line({0: 1, 0.5: 3, 1: 1}))
    with pytest.raises(AnalysisError, match="without `weight`"):
        path(made.assign(settings="{}"))


def test_a_scaled_path_is_another_path() -> None:
    plain = rows.frame(line({0: 1, 0.5: 3, 1: 1}))
    scaled = plain.assign(scaling="magnify", scaling_factor=2.0, cross_entropy=9.0)
    both = pd.concat([plain, scaled])
    pd.testing.assert_frame_equal(path(both), path(plain))
    assert len(path(both, by=["population", "scaling"])) == 2 * len(QUANTITIES)
    with pytest.raises(AnalysisError, match="mixes several values of `scaling`"):
        path(both, by=["population", "scaling_members"])


def answers(made: list[dict[str, Any]], right: np.ndarray) -> pd.DataFrame:
    """Predictions with the correctness `right` (candidates, examples)."""
    predicted = []
    for row, bits in zip(made, right, strict=True):
        about = {key: row[key] for key in ("candidate_id", "split")} | {"n_examples": len(bits)}
        predicted.append(about | {"correct": np.packbits(bits).tobytes()})
    return rows.frame(predicted, "predictions")


def flat(
    pools: int, weights: int, examples: int, hump: float = 0.0, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Candidates, predictions and bits of one path per pool that is flat, or has a hump, under a noise of examples."""
    random = np.random.default_rng(seed)
    grid = np.linspace(0, 1, weights)
    made = [row for pool in range(pools) for row in line(dict.fromkeys(grid.tolist(), 1.0), pool)]
    chance = np.tile(0.9 - hump * 4 * grid * (1 - grid), pools)
    right = random.random((len(made), examples)) < chance[:, None]
    for row, bits in zip(made, right, strict=True):
        row["accuracy"] = float(bits.mean())
    return rows.frame(made), answers(made, right), right


def test_the_barrier_of_a_flat_noisy_path_is_naively_above_zero_and_zero_by_halves() -> None:
    candidates, predictions, _ = flat(40, 21, 403)
    naive = path(candidates, metric="accuracy").iloc[0]
    honest = path_split_half(candidates, predictions).iloc[0]
    noise = math.sqrt(0.9 * 0.1 / 403)
    assert naive["low"] > 1.4 * noise
    assert honest["low"] < 0 < honest["high"]
    assert abs(honest["estimate"]) < 0.5 * noise


def test_a_real_barrier_stays_by_halves() -> None:
    candidates, predictions, _ = flat(30, 11, 2000, hump=0.2)
    honest = path_split_half(candidates, predictions, margin=0.01).iloc[0]
    assert honest["low"] < 0.2 < honest["high"]
    assert honest["verdict"] == "beyond the margin"


def test_split_halves_are_those_of_unpacked_bits() -> None:
    candidates, predictions, right = flat(4, 5, 51, seed=3)
    weights = np.linspace(0, 1, 5)
    order = np.random.default_rng([7, 51]).permutation(51)
    halves = [order[:25], order[25:]]
    expected = []
    for own in right.reshape(4, 5, 51):
        error = [1 - own[:, half].mean(axis=1) for half in halves]
        gap = [one - ((1 - weights) * one[0] + weights * one[-1]) for one in error]
        expected.append((gap[0][np.argmax(gap[1])] + gap[1][np.argmax(gap[0])]) / 2)
    found = path_split_half(candidates, predictions, seed=7).iloc[0]
    assert found["estimate"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert found["p"] == pytest.approx(stats.ttest_1samp(expected, 0).pvalue)
    other = path_split_half(candidates, predictions, seed=8).iloc[0]
    assert other["estimate"] != found["estimate"]


def test_pairs_without_predictions_are_counted_and_damaged_ones_refused() -> None:
    candidates, predictions, _ = flat(3, 5, 40)
    found = path_split_half(candidates, predictions.iloc[1:]).iloc[0]
    assert found["n_units"] == 2
    assert "1 pair left out: no predictions" in found["warnings"]
    none = path_split_half(candidates, predictions.iloc[::5]).iloc[0]
    assert (none["n_units"], math.isnan(none["estimate"])) == (0, True)
    short = predictions.assign(correct=[b"\0", *predictions["correct"].iloc[1:]])
    with pytest.raises(AnalysisError, match="not 5 bytes long"):
        path_split_half(candidates, short)


def test_data_sets_of_several_sizes_are_halved_on_their_own() -> None:
    small = flat(3, 5, 24, seed=1)
    large = flat(3, 5, 1000, seed=2)
    named = small[0].assign(candidate_id="s" + small[0]["candidate_id"], population="small")
    predicted = small[1].assign(candidate_id="s" + small[1]["candidate_id"])
    both = path_split_half(pd.concat([named, large[0]]), pd.concat([predicted, large[1]])).set_index("population")
    for name, (candidates, predictions, _) in {"small": small, "people": large}.items():
        assert both.loc[name, "estimate"] == path_split_half(candidates, predictions)["estimate"].item()


def test_a_run_folder_gives_what_its_rows_give(tmp_path: Path) -> None:
    made = rows.candidates()
    predictions = rows.predictions(made)
    run = load(rows.write(tmp_path / "run", {"candidates": made, "predictions": predictions}))
    plain = rows.frame(made)
    predicted = rows.frame(predictions, "predictions")
    for found, expected in (
        (path(run.candidates), path(plain)),
        (stages(run.candidates), stages(plain)),
        (path_split_half(run.candidates, run.table("predictions")), path_split_half(plain, predicted)),
    ):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
