"""The statistic and the figure of growth with the number of members: fitted in each pool, then t over pools."""

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
    return found.set_index("quantity")


def all_warnings(found: pd.DataFrame) -> str:
    return "; ".join(found["warnings"].iloc[0])


def test_coefficients_are_fitted_in_each_pool_then_t_over_pools() -> None:
    found = table(curve(rows.frame(soups(saturating)), law="inverse"))
    # The gain over the mean member of a - b/N is b - b/N.
    for quantity in ("a", "b"):
        interval = stats.ttest_1samp([0.1, 0.12, 0.18], 0).confidence_interval()
        row = found.loc[quantity]
        np.testing.assert_allclose(
            row[["estimate", "low", "high"]].astype(float), [0.4 / 3, interval.low, interval.high], rtol=1e-9
        )
    assert found.loc["a", "sizes"] == "1, 2, 3, 4, 6"
    assert found.loc["N*", "estimate"] == next(n for n in itertools.count(1) if 0.4 / 3 / (n * (n + 1)) < 0.001)
    assert found.loc["a", "score"] == pytest.approx(0, abs=1e-12)


def test_accuracy_grows_as_its_gain_and_the_law_is_named() -> None:
    found = curve(rows.frame(soups(lambda pool, size: saturating(pool, size) + 1e-4 * (-1) ** size)), value="accuracy")
    by_law = found[found["quantity"] == "left-out error"].set_index("law")["estimate"]
    assert set(by_law.index) == set(laws.LAWS)
    assert set(found.loc[found["quantity"] != "left-out error", "law"]) == {"inverse"}
    chosen = table(found)
    assert chosen.loc["a", "score"] == by_law["inverse"] == by_law[["inverse", "root", "log"]].min()
    assert chosen.loc["b", "p"] < 0.05
    assert chosen.loc["a", "p"] is None or math.isnan(chosen.loc["a", "p"])


def test_rounding_is_no_growth() -> None:
    found = table(curve(rows.frame(soups(lambda pool, size: 0.7 + 0.1 * (size > 1))), single=False))
    assert found.loc["a", "estimate"] == pytest.approx(0.1)
    assert found.loc["b", ["estimate", "low", "high"]].tolist() == [0, 0, 0]
    assert "no spread between pools" in "; ".join(found.loc["b", "warnings"])


def test_a_single_member_off_the_law_does_not_join() -> None:
    made = rows.frame(soups(lambda pool, size: saturating(pool, size) + 0.001 * pool * (size == 3) - 0.1 * (size > 1)))
    stepped = curve(made, law="inverse")
    assert stepped["sizes"].eq("2, 3, 4, 6").all()
    assert "N = 1 is not fitted" in all_warnings(stepped)
    alone = curve(made[made["n_members"] > 1], value="accuracy", law="inverse")
    same = curve(made, value="accuracy", law="inverse", single=False)
    pd.testing.assert_frame_equal(alone, same)


def test_one_pool_cannot_show_whether_a_single_member_lies_on_the_law() -> None:
    found = curve(rows.frame(soups(saturating, pools=1)))
    assert "cannot be tested" in all_warnings(found)
    assert np.isneginf(found["low"]).all()


def test_few_sizes_give_a_warning() -> None:
    two = curve(rows.frame(soups(saturating, sizes=(2, 4))), single=False)
    assert two["quantity"].tolist() == ["a", "b", "N*"]
    assert "2 sizes: no law can be chosen, a − b/N is assumed" in all_warnings(two)
    one = curve(rows.frame(soups(saturating, sizes=(4,))))
    assert one["estimate"].isna().all()
    assert one["n_units"].eq(0).all()
    assert "one size: `inverse` has 2 coefficients" in all_warnings(one)
    three = curve(rows.frame(soups(saturating, sizes=(2, 4))), law="power", single=False)
    assert "2 sizes: `power` has 3 coefficients" in all_warnings(three)


def test_a_pool_without_enough_sizes_is_left_out_with_a_warning() -> None:
    made = [row for row in soups(saturating) if row["pool"] < 2 or row["n_members"] in (1, 4)]
    found = curve(rows.frame(made), value="accuracy", law="inverse", single=False)
    assert table(found).loc["a", "n_units"] == 2
    two = curve(rows.frame([row for row in made if row["pool"] < 2]), value="accuracy", law="inverse", single=False)
    assert table(found).loc["a", "estimate"] == table(two).loc["a", "estimate"]
    assert "1 pool with too few sizes for the law" in all_warnings(found)


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
    assert found.loc["N*", "estimate"] == next(n for n in itertools.count(1) if 0.11 / (n * (n + 1)) < 0.001)


def test_enough_members_are_no_fewer_than_were_fitted() -> None:
    falling = curve(
        rows.frame(soups(lambda pool, size: 0.8 + (0.2 + 0.01 * pool) / size)), value="accuracy", single=False
    )
    assert table(falling).loc["N*", ["estimate", "low", "high"]].tolist() == [2, 2, 2]


def test_a_subset_without_its_single_members_has_no_gain() -> None:
    made = [row for row in soups(saturating) if row["method"] != "single" or row["pool"] > 0]
    found = curve(rows.frame(made), law="inverse")
    assert table(found).loc["a", "n_units"] == 2
    assert "left out: a single member is missing" in all_warnings(found)


@pytest.mark.parametrize(("setting", "hint"), [({"value": "gains"}, "`gain`"), ({"law": "roots"}, "`root`")])
def test_an_unknown_setting_is_answered_with_the_nearest(setting: dict[str, Any], hint: str) -> None:
    with pytest.raises(AnalysisError, match=f"did you mean .*{hint}"):
        curve(rows.frame(soups(saturating)), **setting)


def test_a_group_that_mixes_protocols_is_refused() -> None:
    made = rows.frame(soups(saturating))
    both = pd.concat([made, made.assign(split="validation")])
    assert len(curve(both, by=["split"])["split"].unique()) == 2
    larger = pd.concat([made, made.assign(scaling="magnify", scaling_factor=2.0)])
    with pytest.raises(AnalysisError, match="`scaling"):
        curve(larger, value="accuracy", by=["scaling_members"])


def test_the_figure_of_members_shows_measured_means_and_the_mean_curve_of_pools() -> None:
    made = rows.frame(soups(saturating))
    data = number(made).data
    measured = data[data["quantity"] == "measured"].set_index("n_members")["estimate"]
    mean_b = 0.4 / 3
    np.testing.assert_allclose(measured, [mean_b * (1 - 1 / n) for n in (2, 3, 4, 6)], rtol=1e-9)
    line = data[data["quantity"] == "fitted"]
    assert line["law"].eq("a − b/N").all()
    np.testing.assert_allclose(line["estimate"], mean_b * (1 - 1 / line["n_members"]), rtol=1e-9, atol=1e-12)
    assert line["n_members"].iloc[[0, -1]].tolist() == pytest.approx([1, 6])
    assert data.loc[data["quantity"] == "N*", "estimate"].item() == 12


def test_the_figure_of_members_needs_single_members() -> None:
    made = [row for row in soups(saturating) if row["method"] != "single"]
    with pytest.raises(NothingToDrawError, match="no merges whose single members"):
        number(rows.frame(made))
