"""Costs and the Pareto front; a loaded run gives the same result as plain rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.rows.run import load
from analysis.statistics.pareto import front, pareto
from analysis.statistics.predict_gain import predict_gain
from analysis.statistics.variance import variance
from tests.helpers import rows


def priced(**values: Any) -> pd.DataFrame:
    return rows.frame(rows.members(), "members").assign(**{"forward_flops": 1_000_000, **values})


def test_costs_count_the_networks() -> None:
    made = rows.candidates()
    for k, row in enumerate(made):
        row["merge_seconds"] = 1.0
        row["evaluate_seconds"] = float(k % 3)
        if row["method"] == "logit_average":
            row |= {"repair": "reset_bn", "repair_settings": '{"examples": 512}'}
    found = pareto(rows.frame(made), priced()).set_index(["label", "n_members"])
    soup = found.loc["uniform_soup", 3]
    logits = found.loc["logit_average + reset_bn (examples=512)", 3]
    assert (soup["networks"], soup["forward_flops"], soup["stored_parameters"]) == (1, 1_000_000, 12_345)
    assert (logits["networks"], logits["forward_flops"], logits["stored_parameters"]) == (3, 3_000_000, 37_035)
    assert math.isnan(soup["data_used"])
    assert logits["data_used"] == 512
    assert found["seconds"].between(1, 3).all()
    unknown = pareto(rows.frame(made), priced(forward_flops=None))
    assert unknown["forward_flops"].isna().all()
    assert unknown["on_front"].tolist() == found["on_front"].tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    costs, values = np.array(points).T
    found = front(values[None].astype(float), costs)[0]
    for k, (cost, value) in enumerate(points):
        beaten = any(c <= cost and v >= value and (c < cost or v > value) for c, v in points)
        assert found[k] == (not beaten)


def test_the_share_on_the_front_is_that_of_resampled_pools() -> None:
    made = []
    for pool, (soup, single) in enumerate([(0.9, 0.8), (0.7, 0.75)]):
        made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=soup))
        made.append(rows.candidate(pool, (0,), "single", accuracy=single))
    found = pareto(rows.frame(made), priced()).set_index("label")
    # Both pools in every order but twice the second: three of four.
    assert found["on_front"].to_dict() == {"uniform_soup": True, "single": False}
    assert found.loc["uniform_soup", "on_front_share"] == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 2000))
    assert found["on_front_share"].sum() == pytest.approx(1)


def test_a_lower_loss_is_better_and_what_failed_is_not_on_the_front() -> None:
    made = [rows.candidate(0, (0, 1), "uniform_soup", cross_entropy=0.2, accuracy=0.1)]
    made += [rows.candidate(0, (0,), "single", cross_entropy=0.4, accuracy=0.9)]
    made += [rows.candidate(0, (0, 1), "greedy_soup", status="failed", cross_entropy=None, accuracy=None)]
    found = pareto(rows.frame(made), priced(), metric="cross_entropy").set_index("label")["on_front"]
    assert found.to_dict() == {"uniform_soup": True, "single": False, "greedy_soup": False}
    assert pareto(rows.frame(made), priced()).set_index("label")["on_front"]["single"]


def test_a_run_as_it_is_loaded_gives_what_plain_rows_give(tmp_path: Path) -> None:
    made = {"candidates": rows.candidates(), "members": rows.members(), "pairs": rows.pairs()}
    plain = {name: rows.frame(own, name) for name, own in made.items()}
    run = load(rows.write(tmp_path / "run", made))
    for function, other in ((predict_gain, "pairs"), (variance, "members"), (pareto, "members")):
        loaded = function(run.candidates, run.table(other))
        pd.testing.assert_frame_equal(loaded, function(plain["candidates"], plain[other]))
