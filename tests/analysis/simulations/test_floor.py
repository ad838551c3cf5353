"""Loss under scaling where curves begin at other accuracies: an equal share of what is above chance is no effect."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.claims.soups_resist_scale import soups_resist_scale
from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Estimate
from analysis.report.claims import claim_verdict
from analysis.rows.chance import CLASS_SHARES
from analysis.statistics.scale_sensitivity import scale_sensitivity
from tests.analysis.simulations.test_curves import PLAIN

pytestmark = pytest.mark.slow

STUDIES = 400
CHANCE = 0.1
EXAMPLES = 360
FACTORS = (1.0, 2.0, 4.0)
KEPT = np.array([1.0, 0.85, 0.5])
"""Retention at each factor."""


def networks(
    pools: int, soup: float, single: float, *, better: float = 0.0, studies: int = STUDIES, seed: int = 0
) -> pd.DataFrame:
    """Soups of two members and their members in studies (populations), which keep the same share above chance.

    Accuracy without scaling and retention vary between pools, and outputs are counted on 360 examples. Soups keep
    `better` more of their accuracy above chance at the largest factor, and half of it at the one before.
    """
    random = np.random.default_rng([pools, seed])
    level = np.array([soup, single, single]) + 0.01 * random.standard_normal((studies, pools, 3))
    kept = KEPT + 0.03 * random.standard_normal((studies, pools, 3, 1)) * (KEPT < 1)
    kept[:, :, 0] += better * np.array([0, 0.5, 1])
    expected = np.clip(CHANCE + (level[..., None] - CHANCE) * kept, 0, 1)
    accuracy = random.binomial(EXAMPLES, expected) / EXAMPLES
    study, pool, network, factor = (index.ravel() for index in np.indices(accuracy.shape))
    members = [["0", "1"], ["0"], ["1"]]
    made = pd.DataFrame({"population": study, "pool_id": study * pools + pool, "accuracy": accuracy.ravel()})
    return made.assign(
        **PLAIN | {"method": np.where(network == 0, "uniform_soup", "single")},
        n_members=np.where(network == 0, 2, 1),
        members=[members[index] for index in network],
        chance=CHANCE,
        chance_source=CLASS_SHARES,
        n_examples=EXAMPLES,
    ).assign(
        scaling=np.where(factor == 0, "none", "magnify"),
        scaling_factor=np.array(FACTORS)[factor],
        scaling_settings=np.where(factor == 0, "{}", [f'{{"factor": {place}}}' for place in factor]),
    )


def differences(made: pd.DataFrame) -> pd.DataFrame:
    found = scale_sensitivity(made, a="uniform_soup", b="single", margin=0.005, retention_margin=0.05)
    return found.set_index("quantity")


def verdicts(rows: pd.DataFrame) -> pd.Series:
    """The verdict of `soups_resist_scale` in each study."""
    names = [field.name for field in dataclasses.fields(Estimate)]
    found = [claim_verdict(Estimate(**row), "below") for row in rows[names].to_dict("records")]
    return pd.Series(found).value_counts(normalize=True)


@pytest.mark.parametrize("pools", [5, 8, 12, 20])
def test_the_same_relative_curve_is_no_effect(pools: int) -> None:
    worse = differences(networks(pools, 0.6, 0.95))
    better = differences(networks(pools, 0.97, 0.93))
    both = pd.concat([worse, better]).loc["retention area above 1"]
    assert len(both) == 2 * STUDIES
    # Three standard errors of a share of .05, and of .025 for one side, in 800 studies.
    assert (both["p"] < 0.05).mean() <= 0.05 + 3 * 0.0077
    wrong = [verdicts(worse.loc["retention area above 1"]).get("supported", 0.0)]
    wrong.append(verdicts(better.loc["retention area above 1"]).get("refuted", 0.0))
    assert max(wrong) <= 0.025 + 3 * 0.0078
    # The absolute area calls the less accurate soup robust.
    assert verdicts(worse.loc["area above 1"])["supported"] > 0.9


def test_a_true_effect_is_found() -> None:
    # .15 more at the largest factor and half of it before: .075 on average over the range.
    found = differences(networks(8, 0.6, 0.95, better=0.15)).loc["retention area above 1"]
    assert found["estimate"].mean() == pytest.approx(-0.075, abs=0.003)
    assert ((found["low"] <= -0.075) & (found["high"] >= -0.075)).mean() >= 0.95 - 3 * 0.011
    assert verdicts(found)["supported"] > 0.85


def test_a_soup_at_chance_is_not_asked() -> None:
    made = networks(8, CHANCE, 0.95, studies=10)
    # Even if the accuracy rises with the factor, as where the soup becomes its first member.
    rises = (made["method"] == "uniform_soup") & (made["scaling_factor"] > 2)
    made.loc[rises, "accuracy"] = 0.9
    with pytest.raises(NothingToDrawError, match="the merge is at chance in 8 of 8 pools"):
        soups_resist_scale(made)
    found = differences(made)
    assert (found.loc["retention area above 1", "n_units"] == 0).all()
    assert found.loc["area above 1", "p"].max() < 0.001
    with pytest.raises(NothingToDrawError, match="single members are at chance in 8 of 8 pools"):
        soups_resist_scale(networks(8, 0.9, CHANCE, studies=1))


def test_a_population_at_chance_does_not_count() -> None:
    alive = networks(8, 0.6, 0.95, studies=40)
    dead = networks(8, CHANCE, 0.95, studies=1, seed=1)
    dead = dead.assign(population=1000, pool_id=dead["pool_id"] + 10**6)
    found = soups_resist_scale(pd.concat([alive, dead], ignore_index=True))
    alone = soups_resist_scale(alive)
    assert found.estimate.estimate == alone.estimate.estimate
    assert found.estimate.verdict == "equivalent"
    assert "at chance in 8 of 8 pools: uniform_soup in 1000, 2 members" in found.estimate.warnings[0]
    assert not any("chance:" in text or "at chance" in text for text in alone.estimate.warnings)
