"""Stages of a path: found where they are, and none where another model wins."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.stages import BREAKS, GAINS, stages
from tests.helpers import rows
from tests.helpers.interpolations import line


def staged(w: np.ndarray, low: float = 0.3, high: float = 0.6) -> np.ndarray:
    return np.interp(w, [0, low, high, 1], [1.0, 0.9, 2.0, 2.3])


def staircase(shape: Any, *, pools: int = 5, weights: int = 21, noise: float = 0.01, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    made = []
    grid = np.linspace(0, 1, weights).round(9)
    for pool, pair in itertools.product(range(pools), [(0, 1), (0, 2), (1, 2)]):
        loss = shape(grid) + noise * random.standard_normal(weights)
        made += line(dict(zip(grid.tolist(), loss.tolist(), strict=True)), pool, members=pair)
    return rows.frame(made)


def test_stages_that_are_there_are_found_where_they_are() -> None:
    found = stages(staircase(staged, noise=0.05)).set_index("quantity")
    assert (found.loc[list(GAINS), "low"] > 0).all()
    np.testing.assert_allclose(found.loc[list(BREAKS), "estimate"], [0.3, 0.6], atol=0.02)
    assert (found["n_units"] == 5).all()
    assert all("of the spread" in text for texts in found["warnings"] for text in texts)


def test_paths_are_turned_the_same_way_whichever_end_comes_first() -> None:
    made = staircase(staged)
    turned = made.assign(
        settings=[json.dumps({"weight": round(1 - json.loads(text)["weight"], 9)}) for text in made["settings"]]
    )
    some = made["pool"] % 2 == 0
    mixed = pd.concat([made[some], turned[~some]])
    pd.testing.assert_frame_equal(stages(mixed), stages(made))


def test_criteria_are_those_of_plain_least_squares() -> None:
    made = staircase(staged, pools=1)
    n = 21
    grid = np.linspace(0, 1, n)
    mean = made.assign(w=[json.loads(text)["weight"] for text in made["settings"]]).groupby("w")["cross_entropy"].mean()

    def criterion(columns: list[np.ndarray], more: int = 0) -> float:
        rest = np.linalg.lstsq(np.stack(columns, axis=1), mean.to_numpy(), rcond=None)[1].item()
        k = len(columns) + more
        return float(n * math.log(rest / n) + k * math.log(n) * n / (n - k - 2))

    straight = [np.ones(n), grid]
    # Three weights beside each break, itself included, and two between them: every pair of weights but the outermost.
    places = itertools.combinations([place / 20 for place in range(2, 19)], 2)
    bent = {(a, b): criterion([*straight, np.maximum(grid - a, 0), np.maximum(grid - b, 0)], 2) for a, b in places}
    best = min(bent, key=lambda place: bent[place])
    found = stages(made, resolution=0.05).set_index("quantity")["estimate"]
    assert found[GAINS[0]] == pytest.approx(criterion(straight) - bent[best])
    smooth = [criterion([grid**power for power in range(degree + 1)]) for degree in (1, 2, 3, 4)]
    assert found[GAINS[1]] <= min(smooth) - bent[best] + 1e-9
    assert tuple(found[list(BREAKS)]) == pytest.approx(best)


WINNERS = {
    "line": lambda w: 1 + w,
    "quadratic": lambda w: 1 + 4 * w * (1 - w),
    "cubic": lambda w: 1 + 20 * w * (1 - w) * (w - 0.5),
    "quartic": lambda w: 1 + 16 * (w * (1 - w)) ** 2,
    "logistic curve": lambda w: 1 + 1 / (1 + np.exp((0.4 - w) / 0.05)),
    "smoothing spline": lambda w: 1 + np.exp(-(((w - 0.5) / 0.15) ** 2)),
}


@pytest.mark.parametrize(("winner", "shape"), WINNERS.items())
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_where_another_model_wins_there_are_no_breakpoints_and_it_is_named(
    shape: Any, winner: str, noise: float
) -> None:
    found = stages(staircase(shape, noise=noise)).set_index("quantity")
    breaks = found.loc[list(BREAKS)]
    assert breaks["estimate"].isna().all()
    assert np.isinf(breaks[["low", "high"]].to_numpy(float)).all()
    assert all(f"the {winner} won in " in texts[-1] for texts in breaks["warnings"])
    assert found.loc[list(GAINS), "estimate"].notna().all()


def test_stages_need_nine_weights_and_the_same_ones_in_a_pool() -> None:
    few = stages(staircase(staged, weights=8)).iloc[0]
    assert (few["n_units"], few["warnings"][0]) == (0, "15 pairs left out: fewer than 9 weights")
    made = staircase(staged)
    gone = (made["pool"] == 0) & (made["member_indices"].map(tuple) == (0, 1)) & made["settings"].str.contains("0.25")
    assert gone.sum() == 1
    found = stages(made[~gone]).iloc[0]
    assert found["warnings"][0] == "1 pair left out: other weights than its pool"
    assert found["n_units"] == 5


def test_each_group_of_stages_is_judged_by_its_own_pools() -> None:
    steps = staircase(staged)
    curve = staircase(lambda w: 1 + 4 * w * (1 - w))
    found = stages(pd.concat([steps, curve.assign(alignment="weight_matching")])).set_index(["alignment", "quantity"])
    assert found.loc[("none", BREAKS[0]), "estimate"] == pytest.approx(0.3, abs=0.02)
    assert math.isnan(found.loc[("weight_matching", BREAKS[0]), "estimate"])
