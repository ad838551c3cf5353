"""Statistics: laws over every file of the folder, and the means over pools."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pandas as pd
import pytest

from analysis.core import registry as catalogue
from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate
from analysis.rows.select import METRICS, unscaled
from analysis.statistics.pool_means import pool_means
from sweep.storage.columns import KEYS
from tests.helpers import rows

STATISTICS = catalogue.list_plugins("statistics")
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
    function = catalogue.get_plugin("statistics", name)
    found: pd.DataFrame = function(*({**frames, **instead}[table] for table in catalogue.tables(function)))
    return found


def needs(name: str) -> list[str]:
    return catalogue.tables(catalogue.get_plugin("statistics", name))


def with_columns(table: pd.DataFrame, whole: pd.DataFrame, message: str) -> pd.DataFrame:
    """The table with those columns of the whole that a message names."""
    return whole[[column for column in whole if column in table or f"`{column}`" in message]]


def refusal(name: str, frames: Frames, expected: pd.DataFrame, instead: Frames) -> str:
    """The message with which the statistic refuses the tables; empty if it gives what is expected."""
    try:
        found = asked(name, frames, **instead)
    except AnalysisError as error:
        return str(error)
    pd.testing.assert_frame_equal(found, expected)
    return ""


@pytest.mark.parametrize("name", STATISTICS)
class TestEveryStatistic:
    def test_it_takes_tables_and_settings_with_defaults(self, name: str) -> None:
        function = catalogue.get_plugin("statistics", name)
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
        least: Frames = {table: frames[table].iloc[:, :0] for table in needs(name)}
        found = None
        while found is None:
            try:
                found = asked(name, frames, **least)
            except AnalysisError as error:
                before = sum(len(table.columns) for table in least.values())
                least = {table: with_columns(least[table], frames[table], str(error)) for table in least}
                assert sum(len(table.columns) for table in least.values()) > before
        pd.testing.assert_frame_equal(found, asked(name, frames))
        refusals = {
            (table, column): refusal(name, frames, found, {table: frames[table].drop(columns=column)})
            for table in least
            for column in least[table]
        }
        refused = {where: message for where, message in refusals.items() if message}
        assert len(refused) >= 4
        assert [where for where, message in refused.items() if f"`{where[1]}`" not in message] == []

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
        found = asked(name, frames, candidates=broken)
        without = asked(name, frames, candidates=rows[rows["pool"] != 0])
        warned = found[found["warnings"].map(bool)]
        assert not warned.empty
        assert warned["warnings"].map(lambda texts: any("left out: non_finite" in text for text in texts)).all()
        assert warned["n_units"].eq(2).all()
        np.testing.assert_allclose(warned["estimate"], without.loc[warned.index, "estimate"])

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


def test_every_interval_that_rests_on_accuracies_warns_near_the_ceiling(frames: Frames) -> None:
    easy = rows.at_level(frames, 0.985, 3.5)
    hard = rows.at_level(frames, 0.8, 1.0)
    noise = np.random.default_rng(0).normal(0, 0.02, len(hard["candidates"]))
    hard["candidates"] = hard["candidates"].assign(accuracy=hard["candidates"]["accuracy"] + noise)
    resting = set()
    for name in STATISTICS:
        found = asked(name, easy)
        other = asked(name, hard)
        assert not _is_near_ceiling(other).any(), name
        has_interval = np.isfinite(found["low"]) & np.isfinite(found["high"])
        rests = has_interval & ~np.isclose(found["estimate"], other["estimate"], equal_nan=True)
        assert _is_near_ceiling(found)[rests].all(), name
        resting |= {name} if rests.any() else set()
    assert len(resting) > len(STATISTICS) / 2


def _is_near_ceiling(found: pd.DataFrame) -> pd.Series:
    """Whether the warnings of each row name the ceiling."""
    return found["warnings"].map(lambda texts: any("near the ceiling" in text for text in texts)).astype(bool)


def test_pools_weigh_the_same_however_many_subsets_they_have() -> None:
    made = [rows.candidate(0, (0, 1), "uniform_soup", accuracy=0.8)]
    made += [rows.candidate(1, (0, index), "uniform_soup", accuracy=0.9) for index in range(1, 8)]
    assert pool_means(rows.frame(made))["estimate"].item() == pytest.approx(0.85)


def test_a_metric_that_was_not_evaluated_is_an_error(plain: pd.DataFrame) -> None:
    with pytest.raises(AnalysisError, match="`brier` was not evaluated"):
        pool_means(plain.assign(brier=np.nan), metric="brier")
