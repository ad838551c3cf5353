"""The statistic and the figure of growth with the number of members."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.figures.number import number
from analysis.inference import laws
from analysis.statistics.curve import curve
from tests.helpers import rows


def soups(
    level: Any, sizes: tuple[int, ...] = (2, 3, 4, 6), pools: int = 3, members: int = 8, each: int = 2, **values: Any
) -> list[dict[str, Any]]:
    """Single members and `each` random soups per size, of accuracy `level(pool, size)` plus the members' mean noise."""
    random = np.random.default_rng(5)
    made = []
    for pool in range(pools):
        luck = 0.01 * random.standard_normal(members)
        luck -= luck.mean()
        for index in range(members):
            made.append(rows.candidate(pool, (index,), "single", accuracy=level(pool, 1) + luck[index], **values))
        for size in sizes:
            drawn = {tuple(sorted(random.permutation(members)[:size].tolist())) for _ in range(each)}
            made += [
                rows.candidate(pool, one, "uniform_soup", accuracy=level(pool, size) + luck[list(one)].mean())
                for one in sorted(drawn)
            ]
    return made


def saturating(pool: int, size: int) -> float:
    return 0.9 + 0.01 * pool - (0.1 + 0.02 * pool**2) / size


def table(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of coefficients and of N* by quantity."""
    return found[~found["quantity"].isin(["gain", "accuracy", "step"])].set_index("quantity")


def all_warnings(found: pd.DataFrame) -> str:
    return "; ".join(found["warnings"].iloc[-1])


def star(found: pd.DataFrame) -> tuple[list[float], str]:
    row = found[found["quantity"] == "N*"].iloc[0]
    return row[["estimate", "low", "high"]].tolist(), "; ".join(row["warnings"])


def test_gains_and_steps_are_means_over_pools_at_the_sizes_measured() -> None:
    found = curve(rows.frame(soups(saturating)))
    assert found["quantity"].tolist() == ["gain"] * 4 + ["step"] * 3 + ["N*"]
    assert found["sizes"].tolist() == ["2", "3", "4", "6", "2, 3", "3, 4", "4, 6", "2, 3, 4, 6"]
    # The gain over the mean member of a - b/N is b - b/N.
    b = np.array([0.1, 0.12, 0.18])
    expected = [b * (1 - 1 / n) for n in (2, 3, 4, 6)]
    expected += [b * (1 / n - 1 / more) / (more - n) for n, more in ((2, 3), (3, 4), (4, 6))]
    for (_, row), pools in zip(found.iloc[:7].iterrows(), expected, strict=True):
        test = stats.ttest_1samp(pools, 0)
        interval = test.confidence_interval()
        assert row["estimate"] == pytest.approx(pools.mean())
        assert row["p"] == pytest.approx(test.pvalue)
        # All sizes rise and fall together: what holds at one holds at all.
        assert [row["low"], row["high"]] == pytest.approx([interval.low, interval.high], rel=0.05)
        assert row["high"] - row["low"] >= (interval.high - interval.low) * (1 - 1e-9)
    assert found.loc[found["quantity"] == "step", "margin"].eq(0.001).all()
    assert found["law"].eq("").all()


def test_steps_of_accuracy_are_those_of_the_gain() -> None:
    made = rows.frame(soups(saturating, each=30))
    gain = curve(made)
    accuracy = curve(made, value="accuracy")
    steps = [found[found["quantity"] == "step"]["estimate"].to_numpy() for found in (gain, accuracy)]
    np.testing.assert_allclose(*steps, atol=3e-3)
    assert accuracy.loc[accuracy["quantity"] == "accuracy", "p"].isna().all()


@pytest.mark.parametrize(
    ("level", "expected", "reason"),
    [
        # Steps per member of .02, .002 and .0004, each with a spread of a few percent.
        (lambda n: 0.05 * (n == 2) + 0.07 * (n == 3) + 0.072 * (n == 4) + 0.0728 * (n == 6), [4, 4, 4], ""),
        (lambda n: 0.05 + 0.0001 * n, [2, 2, 2], "may be below 2"),
        (lambda n: 0.05 + 0.01 * n, [math.nan, 6, math.inf], "not identified"),
        (lambda n: 0.05 - 0.01 * n, [math.nan, -math.inf, math.inf], "merging more does not pay: from N = 2 to 6"),
        (lambda n: -0.05 - 0.01 * n, [math.nan, -math.inf, math.inf], "gain changes by -0.0"),
    ],
)
def test_enough_members_are_a_size_from_which_steps_are_small(level: Any, expected: list[float], reason: str) -> None:
    made = rows.frame(soups(lambda pool, size: 0.5 + (size > 1) * level(size) * (1 + 0.02 * pool)))
    ends, warning = star(curve(made))
    np.testing.assert_equal(ends, expected)
    assert reason in warning


def test_a_fall_that_noise_may_have_made_is_not_called_one() -> None:
    made = soups(lambda pool, size: 0.8 - 0.001 * (size == 6) + 0.01 * (-1) ** pool * (size == 6), pools=4)
    ends, warning = star(curve(rows.frame(made)))
    np.testing.assert_equal(ends, [math.nan, -math.inf, math.inf])
    assert "merging more is not shown to pay" in warning


def test_the_interval_of_enough_members_is_every_size_that_the_steps_allow() -> None:
    made = rows.frame(soups(lambda pool, size: 0.8 + 0.01 * min(size, 4) + 0.002 * (pool - 1) * (size == 4)))
    found = curve(made)
    ends, _ = star(found)
    steps = found[found["quantity"] == "step"]
    for value, end in zip(("estimate", "low", "high"), ends, strict=True):
        small = steps[value].to_numpy() < 0.001
        first = next((n for n, place in ((2, 0), (3, 1), (4, 2)) if small[place:].all()), math.inf)
        assert end == first or (math.isnan(end) and math.isinf(ends[2])) or first == math.inf


def test_rounding_is_no_growth() -> None:
    found = curve(rows.frame(soups(lambda pool, size: 0.7 + 0.1 * (size > 1))), law="inverse")
    assert found.loc[found["quantity"] == "gain", "estimate"].tolist() == pytest.approx([0.1] * 4)
    assert found.loc[found["quantity"] == "step", ["estimate", "low", "high"]].to_numpy() == pytest.approx(0)
    assert table(found).loc["a", "estimate"] == pytest.approx(0.1)
    assert table(found).loc["b", ["estimate", "low", "high"]].tolist() == [0, 0, 0]
    assert "no spread between pools" in "; ".join(table(found).loc["b", "warnings"])
    assert "merging more does not pay" in star(found)[1]


def test_coefficients_of_a_given_law_are_fitted_in_each_pool_then_t_over_pools() -> None:
    found = table(curve(rows.frame(soups(saturating)), law="inverse", single=True))
    for quantity in ("a", "b"):
        interval = stats.ttest_1samp([0.1, 0.12, 0.18], 0).confidence_interval()
        row = found.loc[quantity]
        np.testing.assert_allclose(
            row[["estimate", "low", "high"]].astype(float), [0.4 / 3, interval.low, interval.high], rtol=1e-9
        )
        assert row["estimand"] == f"{quantity} of gain, given this law: a − b/N"
    assert found.loc["a", "sizes"] == "1, 2, 3, 4, 6"
    expected = next(n for n in itertools.count(1) if 0.4 / 3 / (n * (n + 1)) < 0.001)
    assert found.loc["N* of the law", "estimate"] == expected
    assert found.loc["a", "score"] == pytest.approx(0, abs=1e-12)
    by_law = found.loc[["left-out error"]].set_index("law")["estimate"]
    assert by_law.idxmin() == "inverse"
    assert set(by_law.index) == set(laws.LAWS)


def test_a_law_with_c_has_coefficients_where_c_is_determined() -> None:
    found = table(curve(rows.frame(soups(saturating)), law="power"))
    assert found.loc["c", "estimate"] == pytest.approx(1, abs=0.01)
    assert found.loc["b", "estimate"] == pytest.approx(0.4 / 3, rel=0.01)
    assert "N* of the law" not in found.index
    flat = table(curve(rows.frame(soups(lambda pool, size: 0.7 + 0.01 * ((pool + size) % 3))), law="shifted"))
    assert flat.loc[["a", "b", "c"], "estimate"].isna().all()
    assert np.isneginf(flat.loc[["a", "b", "c"], "low"].astype(float)).all()
    assert "c is not determined" in "; ".join(flat.loc["c", "warnings"])


def test_a_single_member_off_the_law_is_reported() -> None:
    made = rows.frame(soups(lambda pool, size: saturating(pool, size) + 0.001 * pool * (size == 3) - 0.1 * (size > 1)))
    assert "N = 1 is off the law of the other sizes" in all_warnings(curve(made, law="inverse", single=True))
    alone = curve(made[made["n_members"] > 1], value="accuracy", law="inverse")
    same = curve(made, value="accuracy", law="inverse")
    pd.testing.assert_frame_equal(alone, same)


def test_one_pool_has_no_interval_and_no_n() -> None:
    found = curve(rows.frame(soups(saturating, pools=1)), law="inverse")
    assert np.isneginf(found.loc[found["quantity"] != "N*", "low"].drop(found[found["law"] != ""].index)).all()
    assert star(found)[0][1:] == [-math.inf, math.inf]
    assert "not identified from one pool" in star(found)[1]
    assert math.isnan(table(found).loc["N* of the law", "estimate"])


def test_few_sizes_give_a_warning() -> None:
    one = curve(rows.frame(soups(saturating, sizes=(4,))), law="inverse")
    assert one["quantity"].tolist() == ["gain", "N*", "a", "b", "N* of the law"]
    assert table(one).loc["a", "n_units"] == 0
    assert "one size: `inverse` has 2 coefficients" in all_warnings(one)
    assert "N* needs two sizes or more" in star(one)[1]
    two = curve(rows.frame(soups(saturating, sizes=(2, 4))), law="power")
    assert "2 sizes: `power` has 3 coefficients" in all_warnings(two)


def test_pools_that_lack_sizes_are_reported() -> None:
    made = [row for row in soups(saturating) if row["pool"] < 2 or row["n_members"] in (1, 4)]
    found = curve(rows.frame(made), value="accuracy", law="inverse")
    assert found.loc[found["quantity"] == "accuracy", "n_units"].tolist() == [2, 2, 3, 2]
    assert found.loc[found["quantity"] == "step", "n_units"].tolist() == [2, 2, 2]
    assert "1 of 3 pools have not all of them" in star(found)[1]
    assert table(found).loc["a", "n_units"] == 2
    two = curve(rows.frame([row for row in made if row["pool"] < 2]), value="accuracy", law="inverse")
    assert table(found).loc["a", "estimate"] == table(two).loc["a", "estimate"]
    assert "1 pool with too few sizes for the law" in "; ".join(table(found).loc["a", "warnings"])
    bent = curve(rows.frame(made), value="accuracy", law="power")
    assert "1 of 3 pools lack a size: left out" in "; ".join(table(bent).loc["c", "warnings"])


def test_no_pool_with_both_ends_has_no_n() -> None:
    made = [row for row in soups(saturating) if row["n_members"] not in ((2,) if row["pool"] else (6,))]
    ends, warning = star(curve(rows.frame(made)))
    assert math.isnan(ends[0])
    assert "no pool has the smallest and the largest size" in warning


def test_single_subsets_and_nested_ones_give_a_warning() -> None:
    whole = curve(rows.frame(soups(saturating, sizes=(2, 4, 8), each=3)))
    assert "one subset per pool at N = 8" in all_warnings(whole)
    assert "nested" not in all_warnings(whole)
    nested = [row | {"members": row["members"]} for row in soups(saturating, sizes=())]
    for pool, size in itertools.product(range(3), (2, 3, 5)):
        nested.append(rows.candidate(pool, tuple(range(size)), "uniform_soup", accuracy=saturating(pool, size)))
    assert "nested subsets" in all_warnings(curve(rows.frame(nested)))
    # One subset per size, none within another.
    apart = [row for row in nested if row["n_members"] != 2]
    apart += [rows.candidate(pool, (6, 7), "uniform_soup", accuracy=0.8) for pool in range(3)]
    assert "nested" not in all_warnings(curve(rows.frame(apart)))
    assert "one subset per pool at N = 2, 3, 5" in all_warnings(curve(rows.frame(apart)))


def test_a_loss_saturates_where_it_stops_falling() -> None:
    made = rows.frame(soups(saturating))
    size = made["n_members"]
    made = made.assign(cross_entropy=0.3 + 0.1 * (1 + 0.1 * made["pool"]) / size)
    found = table(curve(made, value="cross_entropy", law="inverse"))
    assert found.loc["b", "estimate"] == pytest.approx(-0.11)
    expected = next(n for n in itertools.count(1) if 0.11 / (n * (n + 1)) < 0.001)
    assert found.loc["N* of the law", "estimate"] == expected
    flat = made.assign(cross_entropy=0.3 - 0.01 * np.minimum(size, 3) * (1 + 0.01 * made["pool"]))
    assert star(curve(flat, value="cross_entropy"))[0] == [3, 3, 3]
    rising = made.assign(cross_entropy=0.3 + 0.01 * size * (1 + 0.01 * made["pool"]))
    assert "merging more does not pay" in star(curve(rising, value="cross_entropy"))[1]


def test_no_number_of_members_is_enough_for_a_gain_that_falls_by_its_law() -> None:
    made = rows.frame(soups(lambda pool, size: 0.8 + (0.2 + 0.01 * pool) / size))
    found = table(curve(made, value="accuracy", law="inverse"))
    for quantity in ("N*", "N* of the law"):
        assert found.loc[quantity, ["estimate", "low", "high"]].tolist()[1:] == [-math.inf, math.inf]
        assert math.isnan(found.loc[quantity, "estimate"])
        assert "merging more does not pay" in "; ".join(found.loc[quantity, "warnings"])


def test_a_subset_without_its_single_members_has_no_gain() -> None:
    made = [row for row in soups(saturating) if row["method"] != "single" or row["pool"] > 0]
    found = curve(rows.frame(made))
    assert found["n_units"].eq(2).all()
    assert "left out: a single member is missing" in all_warnings(found)


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ({"value": "gains"}, "did you mean .*`gain`"),
        ({"law": "roots"}, "did you mean .*`root`"),
        ({"law": "auto"}, "no law is chosen from the data; name one before looking"),
    ],
)
def test_an_unknown_setting_is_answered_with_what_there_is(setting: dict[str, Any], hint: str) -> None:
    with pytest.raises(AnalysisError, match=hint):
        curve(rows.frame(soups(saturating)), **setting)


def test_a_group_that_mixes_protocols_is_refused() -> None:
    made = rows.frame(soups(saturating))
    both = pd.concat([made, made.assign(split="validation")])
    assert len(curve(both, by=["split"])["split"].unique()) == 2
    larger = pd.concat([made, made.assign(scaling="magnify", scaling_factor=2.0)])
    with pytest.raises(AnalysisError, match="`scaling"):
        curve(larger, value="accuracy", by=["scaling_members"])


def test_the_figure_of_members_draws_what_the_statistic_reports() -> None:
    made = rows.frame(soups(saturating))
    plot = number(made)
    found = curve(made)
    for quantity in ("gain", "step", "N*"):
        drawn = plot.data[plot.data["quantity"] == quantity].reset_index(drop=True)
        same = found[found["quantity"] == quantity].reset_index(drop=True)
        columns = ["estimate", "low", "high", "p_adjusted", "warnings"]
        pd.testing.assert_frame_equal(drawn[columns], same[columns])
    (gains, _, _) = plot.figure.axes
    (band,) = gains.collections
    ends = band.get_datalim(gains.transData).get_points()[:, 1]
    own = found[found["quantity"] == "gain"]
    np.testing.assert_allclose(ends, [100 * own["low"].min(), 100 * own["high"].max()], rtol=1e-9)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (lambda n: 0.05 - 0.01 * n, "merging more does not pay"),
        (lambda n: 0.05 + 0.01 * n, "not identified: 6 or more"),
        (lambda n: 0.05 + 0.0001 * n, "N* = 2 [2, 2]"),
    ],
)
def test_the_figure_of_members_writes_its_answer(level: Any, words: str) -> None:
    made = rows.frame(soups(lambda pool, size: 0.5 + (size > 1) * level(size) * (1 + 0.02 * pool)))
    written = [text.get_text() for axes in number(made).figure.axes for text in axes.texts]
    assert f"uniform_soup: {words}" in written


def test_the_figure_of_members_has_a_place_for_one_size() -> None:
    written = [
        text.get_text() for axes in number(rows.frame(soups(saturating, sizes=(4,)))).figure.axes for text in axes.texts
    ]
    assert "no steps: needs two sizes" in written
    assert "uniform_soup: no N*: one size" in written


def test_the_figure_of_members_needs_single_members() -> None:
    made = [row for row in soups(saturating) if row["method"] != "single"]
    with pytest.raises(NothingToDrawError, match="no merges whose single members"):
        number(rows.frame(made))
