"""Statistics: laws over every file of the folder, exact values, and the coverage of the intervals."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import catalogue
from analysis.errors import AnalysisError
from analysis.estimate import Estimate, pool_mean
from analysis.frames import METRICS, unscaled
from analysis.load import KEYS
from analysis.statistics.barrier import QUANTITIES, barrier
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means

STATISTICS = catalogue.names("statistics")
FIELDS = [field.name for field in dataclasses.fields(Estimate)]
Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    return unscaled(rows.frame(rows.candidates()))


@pytest.fixture(scope="module")
def frames() -> Frames:
    return rows.tables()


def asked(name: str, frames: Frames, **instead: pd.DataFrame) -> pd.DataFrame:
    """The statistic on the tables that it names, with its default settings."""
    function = catalogue.find("statistics", name)
    found: pd.DataFrame = function(*({**frames, **instead}[table] for table in catalogue.tables(function)))
    return found


def needs(name: str) -> list[str]:
    return catalogue.tables(catalogue.find("statistics", name))


@pytest.mark.parametrize("name", STATISTICS)
class TestEveryStatistic:
    def test_it_takes_tables_and_settings_with_defaults(self, name: str) -> None:
        function = catalogue.find("statistics", name)
        assert set(catalogue.tables(function)) <= set(KEYS)
        assert inspect.Parameter.empty not in catalogue.settings(function).values()

    def test_it_gives_estimates_over_pools(self, name: str, frames: Frames) -> None:
        found = asked(name, frames)
        assert list(found.columns)[-len(FIELDS) :] == FIELDS
        assert (found["unit"] == "pool").all()
        assert (found["n_units"] == 3).all()
        known = found[found["estimate"].notna()]
        assert len(known)
        assert ((known["low"] <= known["estimate"]) & (known["estimate"] <= known["high"])).all()

    def test_a_missing_column_is_named_or_not_needed(self, name: str, frames: Frames) -> None:
        whole, refused, wrong = asked(name, frames), [], []
        for table in needs(name):
            for column in frames[table].columns:
                try:
                    found = asked(name, frames, **{table: frames[table].drop(columns=column)})
                    pd.testing.assert_frame_equal(found, whole)
                except AnalysisError as error:
                    refused.append(column)
                    wrong += [column] if f"`{column}`" not in str(error) else []
        assert len(refused) >= 4
        assert wrong == []

    def test_duplicated_rows_are_refused(self, name: str, frames: Frames) -> None:
        for table in needs(name):
            twice = pd.concat([frames[table], frames[table]])
            with pytest.raises(AnalysisError, match="duplicated"):
                asked(name, frames, **{table: twice})

    def test_without_rows_there_is_a_clear_error(self, name: str, frames: Frames) -> None:
        for table in needs(name):
            with pytest.raises(AnalysisError, match="no "):
                asked(name, frames, **{table: frames[table].iloc[:0]})

    def test_another_split_beside_the_first_does_not_mix_in(self, name: str, frames: Frames) -> None:
        if "candidates" not in needs(name):
            return
        rows = frames["candidates"]
        both = pd.concat([rows, rows.assign(split="validation", accuracy=0.5, cross_entropy=9.0)])
        pd.testing.assert_frame_equal(asked(name, frames, candidates=both), asked(name, frames))

    def test_rows_that_are_not_ok_are_left_out_and_counted(self, name: str, frames: Frames) -> None:
        if "candidates" not in needs(name):
            return
        rows = frames["candidates"]
        one = (rows["pool"] == 0) & ~rows["method"].eq("single")
        metrics = {metric: rows[metric].mask(one) for metric in METRICS}
        broken = rows.assign(status=rows["status"].mask(one, "non_finite"), **metrics)
        found, without = asked(name, frames, candidates=broken), asked(name, frames, candidates=rows[rows["pool"] != 0])
        told = found[found["warnings"].map(bool)]
        assert not told.empty
        assert told["warnings"].map(lambda texts: any("left out: non_finite" in text for text in texts)).all()
        assert told["n_units"].eq(2).all()
        np.testing.assert_allclose(told["estimate"], without.loc[told.index, "estimate"])

    def test_one_pool_has_an_infinite_interval_or_speaks_of_its_members(self, name: str, frames: Frames) -> None:
        one = {table: frame[frame["pool"] == 0] for table, frame in frames.items() if "pool" in frame}
        found = asked(name, frames, **one)
        member = found["unit"] == "member"
        alone = found[~member]
        assert np.isneginf(alone["low"]).all()
        assert np.isposinf(alone["high"]).all()
        assert alone["warnings"].map(lambda texts: any("one pool" in text for text in texts)).all()
        assert found.loc[member, "warnings"].map(lambda texts: any("members of this pool" in t for t in texts)).all()

    def test_the_order_of_rows_does_not_matter(self, name: str, frames: Frames) -> None:
        mixed = {table: frame.sample(frac=1, random_state=1) for table, frame in frames.items()}
        pd.testing.assert_frame_equal(asked(name, mixed), asked(name, frames))

    def test_it_leaves_its_input_alone(self, name: str, frames: Frames) -> None:
        before = {table: frame.copy(deep=True) for table, frame in frames.items()}
        asked(name, frames)
        for table, frame in frames.items():
            pd.testing.assert_frame_equal(frame, before[table])


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_is_students(values: list[float]) -> None:
    found = pool_mean(values, null=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reference = stats.ttest_1samp(values, 0.25)
    interval = reference.confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high], rtol=1e-9, atol=1e-9)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-6, abs=1e-12)
    assert (found.n_units, found.df) == (len(values), len(values) - 1)


def test_a_pool_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 pool values are not finite"):
        pool_mean([1.0, math.nan, 2.0])


def test_pools_without_spread_are_told() -> None:
    found = pool_mean([1.0, 1.0, 1.0], null=0.0)
    assert (found.low, found.high, found.p) == (1.0, 1.0, None)
    assert "no spread" in found.warnings[0]


def test_no_pool_gives_no_number() -> None:
    found = pool_mean([])
    assert math.isnan(found.estimate)
    assert "no pool" in found.warnings[0]


def test_pools_weigh_the_same_however_many_subsets_they_have() -> None:
    made = [rows.candidate(0, (0, 1), "uniform_soup", accuracy=0.8)]
    made += [rows.candidate(1, (0, index), "uniform_soup", accuracy=0.9) for index in range(1, 8)]
    assert pool_means(rows.frame(made))["estimate"].item() == pytest.approx(0.85)


def test_pairs_are_taken_on_identical_subsets() -> None:
    made = []
    for pool, (easy, hard) in enumerate([(0.9, 0.5), (0.8, 0.4)]):
        for members, level in (((0, 1), easy), ((0, 2), hard)):
            made.append(rows.candidate(pool, members, "uniform_soup", accuracy=level + 0.01 * (pool + 1)))
            made.append(rows.candidate(pool, members, "logit_average", space="logits", accuracy=level))
    found = paired_difference(rows.frame(made)).iloc[0]
    interval = stats.ttest_1samp([0.01, 0.02], 0).confidence_interval()
    np.testing.assert_allclose(
        [found["estimate"], found["low"], found["high"]], [0.015, interval.low, interval.high], rtol=1e-9
    )
    alone = rows.candidate(0, (1, 2), "uniform_soup", accuracy=0.1)
    found = paired_difference(rows.frame([*made, alone])).iloc[0]
    assert found["estimate"] == pytest.approx(0.015)
    assert found["warnings"] == ("1 pair left out: only one of the two methods has the subset",)


def test_the_mean_member_is_the_mean_of_its_single_members() -> None:
    made = [rows.candidate(0, (index,), "single", accuracy=level) for index, level in enumerate([0.5, 0.7, 0.9])]
    made += [rows.candidate(0, (0, 1), "uniform_soup", accuracy=0.8)]
    made += [rows.candidate(0, (0, 1, 2), "uniform_soup", accuracy=0.8)]
    found = paired_difference(rows.frame(made), "uniform_soup", "mean_member")
    np.testing.assert_allclose(found["estimate"], [0.2, 0.1])
    found = paired_difference(rows.frame(made[1:]), "uniform_soup", "mean_member")
    assert found["n_units"].tolist() == [0, 0]
    assert "1 pair left out: failed" in found["warnings"][0]


def test_an_unknown_label_is_answered_with_the_nearest(plain: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match=r"did you mean .*`uniform_soup`"):
        paired_difference(plain, "uniform_sup")


def test_settings_alignments_and_repairs_are_methods_of_their_own(plain: pd.DataFrame) -> None:
    labels = set(pool_means(plain)["label"])
    assert {"feature_average (head=first)", "feature_average (head=average)"} <= labels
    repaired = plain.assign(repair="reset_bn", alignment="weight_matching")
    label = "uniform_soup + weight_matching + reset_bn"
    found = paired_difference(pd.concat([plain, repaired]), label, "uniform_soup")
    np.testing.assert_allclose(found["estimate"], 0, atol=1e-15)


def path(losses: dict[float, float], pool: int = 0, **values: Any) -> list[dict[str, Any]]:
    return [
        rows.candidate(pool, (0, 1), "interpolation", settings=f'{{"weight": {w}}}', cross_entropy=loss, **values)
        for w, loss in losses.items()
    ]


def measures(losses: dict[float, float]) -> list[float]:
    found = barrier(rows.frame(path(losses))).set_index("quantity")["estimate"]
    return [float(found[name]) for name in QUANTITIES]


def test_barriers_by_hand() -> None:
    # The chord runs from 1 to 2: 1.25, 1.5 and 1.75 at the interior weights.
    np.testing.assert_allclose(measures({0: 1, 0.25: 1.75, 0.5: 1.7, 0.75: 1.5, 1: 2}), [0.5, 0.5, 0.2])
    # A valley: no barrier, and the signed gap is the least negative of -0.25, -0.8 and -0.35.
    np.testing.assert_allclose(measures({0: 1, 0.25: 1.0, 0.5: 0.7, 0.75: 1.4, 1: 2}), [0.0, -0.25, -0.8])


def test_the_barrier_of_accuracy_is_in_error() -> None:
    made = path({0: 1, 0.5: 1, 1: 1})
    for row, accuracy in zip(made, (0.9, 0.6, 0.8), strict=True):
        row["accuracy"] = accuracy
    np.testing.assert_allclose(barrier(rows.frame(made), metric="accuracy")["estimate"], [0.25, 0.25, 0.25])


def test_a_path_that_cannot_be_measured_is_counted() -> None:
    whole, endless = path({0: 1, 0.5: 3, 1: 1}), path({0.25: 1, 0.5: 3}, pool=1)
    found = barrier(rows.frame(whole + endless)).iloc[0]
    assert (found["estimate"], found["n_units"]) == (2.0, 1)
    assert found["warnings"][0] == "1 pair left out: no ends"
    off = barrier(rows.frame(path({0: 1, 0.4: 3, 1: 1}))).set_index("quantity")
    assert off["n_units"].tolist() == [1, 1, 0]


def test_a_metric_that_was_not_evaluated_is_told(plain: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="`brier` was not evaluated"):
        pool_means(plain.assign(brier=np.nan), metric="brier")


def test_intervals_over_pools_cover_and_intervals_over_rows_do_not() -> None:
    random, truth, times = np.random.default_rng(0), 0.3, 1500
    subsets = np.array(list(itertools.combinations(range(6), 3)))
    over_pools, over_rows = 0, 0
    for _ in range(times):
        member = random.normal(truth, 1, (6, 1)) + random.normal(0, 1, (6, 6))
        values = member[:, subsets].mean(axis=2) + random.normal(0, 0.2, (6, len(subsets)))
        found = pool_mean(values.mean(axis=1).tolist())
        over_pools += found.low <= truth <= found.high
        naive = values.std(ddof=1) / math.sqrt(values.size) * stats.t.ppf(0.975, values.size - 1)
        over_rows += abs(values.mean() - truth) <= naive
    assert 0.93 <= over_pools / times <= 0.97
    assert over_rows / times < 0.6
