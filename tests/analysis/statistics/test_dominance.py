"""How fast one magnified member rules a merge: exponents that rows were made with, and those of real networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.statistics.dominance import best_exponents, dominance, share_gain
from tests.helpers import rows
from tests.helpers.engine import trained
from tests.helpers.plain_loop import row

FACTORS = (0.5, 1.4, 2.0, 4.0, 8.0, 32.0)


def share(factor: float, exponent: float, n: int) -> float:
    return 1 / (1 + (n - 1) * factor**-exponent)


def magnified(
    method: str, falls: Sequence[float], exponent: Sequence[float], members: tuple[int, ...] = (0, 1, 2), **own: Any
) -> list[dict[str, Any]]:
    """One merge per pool, which loses its share of `falls` as the first member comes to rule it with its exponent."""
    made = []
    n = len(members)
    for pool, (fall, k) in enumerate(zip(falls, exponent, strict=True)):
        made.append(rows.candidate(pool, members, method, accuracy=0.9, **own))
        for factor in FACTORS:
            drop = fall * (share(factor, k, n) - 1 / n) / (1 - 1 / n)
            settings = {"factor": factor, "members": "first", "tensors": "parameters"}
            values = {"scaling": "magnify", "scaling_settings": json.dumps(settings), "scaling_factor": factor}
            made.append(
                rows.candidate(pool, members, method, accuracy=0.9 - drop, scaling_members="first", **values, **own)
            )
    return made


def asked(made: list[dict[str, Any]], **settings: Any) -> pd.DataFrame:
    return dominance(rows.frame(made), **settings).set_index(["n_members", "label", "quantity"])


def test_exponents_are_found_whatever_the_amount_and_the_number_of_members() -> None:
    factors = np.array([1.0, *[factor for factor in FACTORS if factor > 1]])
    for n in (2, 3, 10):
        for k in (0.5, 1.0, 5.0, 19.0):
            shares = np.array([(share(factor, k, n) - 1 / n) / (1 - 1 / n) for factor in factors])
            np.testing.assert_allclose(share_gain(factors, np.array([k]), n)[0], shares, atol=1e-12)
            found = best_exponents(np.array([0.2 * shares, -0.001 * shares]), factors, n)
            np.testing.assert_allclose(found, np.log2(k), atol=0.01)


def test_soups_and_ensembles_have_exponents_of_their_own_over_pools() -> None:
    depth = (5.0, 6.0, 4.5)
    made = magnified("uniform_soup", (0.2, 0.1, 0.3), (1.0, 1.1, 0.9))
    made += magnified("logit_average", (0.2, 0.1, 0.3), depth, space="logits")
    found = asked(made, depth=5)
    of_logits = found.loc[(3, "logit_average", "log2 exponent")]
    interval = stats.ttest_1samp(np.log2(depth), 0).confidence_interval(0.95)
    values = of_logits[["estimate", "low", "high"]].to_numpy(float)
    np.testing.assert_allclose(values, [np.log2(depth).mean(), interval.low, interval.high], atol=0.02)
    assert found.loc[(3, "uniform_soup", "log2 exponent"), "estimate"] == pytest.approx(0, abs=0.02)
    assert found.loc[(3, "uniform_soup", "misfit of c^5 minus c"), "estimate"] > 0
    assert found.loc[(3, "logit_average", "misfit of c^5 minus c"), "estimate"] < 0
    assert set(asked(made).index.get_level_values("quantity")) == {"log2 exponent"}


def test_factors_below_one_and_other_arms_are_ignored() -> None:
    made = magnified("uniform_soup", (0.2, 0.1), (2.0, 2.0))
    below = [one | {"accuracy": 0.1} if one["scaling_factor"] == 0.5 else one for one in made]
    others = [one | {"scaling_members": "all", "accuracy": 0.1} for one in made if one["scaling"] == "magnify"]
    for place, one in enumerate(others):
        one["candidate_id"] = f"other {place}"
        one["scaling_settings"] = one["scaling_settings"].replace("first", "all")
    pd.testing.assert_frame_equal(asked([*below, *others]), asked(made))
    with pytest.raises(NothingToDrawError, match="first member alone"):
        asked([*others, *[one for one in made if one["scaling"] == "none"]])


def test_pools_without_a_loss_give_a_warning() -> None:
    found = asked(magnified("uniform_soup", (0.2, 0.0, 0.1), (2.0, 1.0, 500.0))).iloc[0]
    assert found["n_units"] == 2
    assert found["warnings"] == ("1 pool left out: no loss to describe", "1 of 2 pools at an end of the search")
    with pytest.raises(AnalysisError, match="below 0"):
        asked(magnified("uniform_soup", (0.2,), (2.0,)), depth=-1)


def test_an_ensemble_of_networks_without_biases_is_ruled_as_a_merge_of_logits_is_weighed() -> None:
    """A member times c has c^L times its logits: the ensemble is that of logits with those weights, and no other."""
    pool = trained("{mlp: {hidden: [24, 24], dropout: 0, bias: false}}")
    warnings = [row(pool, "single", index) for index in range(3)]
    large = row(pool, "logit_average", 0, 1, 2, scaling="{magnify: {factor: 1000, members: first}}")
    assert large["accuracy"] == warnings[0]["accuracy"], "beyond all others, what the outlier says counts alone"
    assert len({one["accuracy"] for one in warnings}) > 1
