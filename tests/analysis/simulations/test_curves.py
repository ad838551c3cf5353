"""Curves over members and factors: coverage of intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.laws import LAWS
from analysis.statistics._growth import measure
from analysis.statistics._laws import coefficients
from analysis.statistics.curve import curve
from analysis.statistics.scale_sensitivity import scale_sensitivity
from tests.analysis.simulations.curve_table import EPS, SIZES, Cell, coverage, outcomes

pytestmark = pytest.mark.slow

POPULATIONS = 1000
STUDIES = 200
"""Studies with rows; their intervals are those of matrices, of which there are more."""
A = 0.9
B = 0.08
PLAIN = {"space": "weights", "method": "uniform_soup", "settings": "{}", "split": "test", "protocol": "correct"}
PLAIN |= {"alignment": "none", "alignment_settings": "{}", "repair": "none", "repair_settings": "{}", "status": "ok"}
PLAIN |= {"scaling": "none", "scaling_settings": "{}", "scaling_factor": 1.0, "scaling_members": "all"}
OTHER = {"cross_entropy": 0.0, "brier": 0.0, "ece": 0.0, "ece_mass": 0.0}


def subsets(random: np.random.Generator, members: int, sizes: tuple[int, ...], each: int, pools: int) -> np.ndarray:
    """Shares of the members in `each` random subsets of every size, (pools, subsets, members)."""
    order = random.random((pools, len(sizes) * each, members)).argsort(axis=2).argsort(axis=2)
    size = np.repeat(sizes, each)[None, :, None]
    return np.asarray((order < size) / size)


def people(*, pools: int, sizes: tuple[int, ...], members: int, each: int, power: float, seed: int) -> pd.DataFrame:
    """Single members and soups of accuracy a - b N^-power plus the noise of the mean member; a, b differ by pool."""
    random = np.random.default_rng(seed)
    n = STUDIES * pools
    a = A + 0.02 * random.standard_normal((n, 1))
    b = B + 0.01 * random.standard_normal((n, 1))
    luck = 0.01 * random.standard_normal((n, members))
    single = np.broadcast_to(np.eye(members), (n, members, members))
    shares = np.concatenate([single, subsets(random, members, sizes, each, n)], axis=1)
    size = (shares > 0).sum(axis=2)
    accuracy = a - b * size**-power + np.einsum("psm,pm->ps", shares, luck)
    accuracy += 0.004 * random.standard_normal(accuracy.shape) * (size > 1)
    members_of_subset = [np.flatnonzero(row).astype(str).tolist() for row in shares.reshape(-1, members)]
    pool = np.repeat(np.arange(n), shares.shape[1])
    made = pd.DataFrame(
        {"population": pool // pools, "pool_id": pool, "pool": pool % pools, "members": members_of_subset}
    )
    made = made.assign(**PLAIN, **OTHER, n_members=size.ravel(), accuracy=accuracy.ravel())
    made["method"] = np.where(made["n_members"] == 1, "single", "uniform_soup")
    # A subset that was drawn twice is one.
    return made[~made.assign(members=made["members"].map("|".join)).duplicated(["pool_id", "members"]).to_numpy()]


def covered(found: pd.DataFrame, quantity: str, truth: float) -> float:
    own = found[found["quantity"] == quantity]
    assert len(own) == STUDIES
    return float(((own["low"] <= truth) & (truth <= own["high"])).mean())


@pytest.fixture(scope="module")
def grown() -> pd.DataFrame:
    """Twelve pools of ten members per population, at most four random subsets of each size."""
    return people(pools=12, sizes=(2, 3, 5, 8), members=10, each=4, power=1.0, seed=1)


@pytest.mark.parametrize("pools", [5, 12])
def test_intervals_of_coefficients_cover_given_the_law(grown: pd.DataFrame, pools: int) -> None:
    found = curve(grown[grown["pool"] < pools], value="accuracy", law="inverse")
    shares = covered(found, "a", A), covered(found, "b", B)
    assert min(shares) >= 0.905
    assert max(shares) <= 0.99


@pytest.mark.parametrize("pools", [5, 12])
def test_gains_and_steps_are_covered_at_once(grown: pd.DataFrame, pools: int) -> None:
    found = curve(grown[grown["pool"] < pools])
    for quantity in ("gain", "step"):
        own = found[found["quantity"] == quantity]
        if quantity == "gain":
            truth = B * (1 - 1 / own["sizes"].astype(float))
        else:
            ends = own["sizes"].str.split(", ", expand=True).astype(float)
            truth = B * (1 / ends[0] - 1 / ends[1]) / (ends[1] - ends[0])
        covered = ((own["low"] <= truth) & (truth <= own["high"])).groupby(own["population"]).all()
        assert 0.905 <= covered.mean() <= 0.99


def test_rows_as_replicates_miss_the_asymptote(grown: pd.DataFrame) -> None:
    hits = 0
    for _, rows in grown[grown["pool"] < 8].groupby("population"):
        line = stats.linregress(1 / rows["n_members"], rows["accuracy"])
        half = stats.t.ppf(0.975, len(rows) - 2) * line.intercept_stderr
        hits += abs(line.intercept - A) <= half
    assert hits / STUDIES < 0.65


@pytest.mark.parametrize(
    "cell",
    [
        Cell("inverse", 0.01, 4, 5),
        Cell("root", 0.03, 8, 5),
        Cell("log", 0.08, 8, 12),
        Cell("power", 0.03, 4, 8),
        Cell("shifted", 0.01, 4, 12),
    ],
    ids=lambda cell: f"{cell.law}-{cell.effect}",
)
class TestEveryLaw:
    def test_no_law_is_assumed_by_the_intervals_at_measured_sizes(self, cell: Cell) -> None:
        found = coverage(cell, 300, 1)
        assert 0.915 <= found["gains"] <= 0.995
        assert 0.915 <= found["steps"] <= 0.995
        assert found["N*"] >= 0.95
        given = [found[name] for name in LAWS[cell.law].coefficients]
        assert min(given) >= 0.915
        assert found["law known"] == 1 or LAWS[cell.law].bounds

    def test_the_simulation_has_the_intervals_of_the_statistic(self, cell: Cell) -> None:
        values = cell.studies(6, 2)
        found = outcomes(cell, values)
        sizes = SIZES[cell.sizes]
        for place, one in enumerate(values):
            curve_of = measure({}, sizes, one, (), value="gain", eps=EPS, margin=None)
            steps = np.diff(cell.truth) / np.diff(sizes)
            for estimates, truth, name in ((curve_of.gains, cell.truth, "gains"), (curve_of.steps, steps, "steps")):
                covered = [e.low <= t <= e.high for e, t in zip(estimates, truth, strict=True)]
                assert all(covered) == found[name][place]
            star = curve_of.enough
            assert (star.low <= min(cell.enough, sizes[-1]) <= star.high) == found["N*"][place]
            given = coefficients(LAWS[cell.law], sizes, one)
            for name, truth in cell.coefficients.items():
                assert name not in given or (given[name].low <= truth <= given[name].high) == found[name][place]


def fallen(log2_middle: np.ndarray, step: float, steepness: float = 3.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Accuracy that falls from 90% to 10% around a factor per (population, pool); log2 c where it has lost 5 points."""
    log2 = np.arange(0, 4 + step / 2, step)
    at_one = 0.8 / (1 + np.exp(-steepness * np.log(2) * log2_middle))
    middle = log2_middle[..., None]
    accuracy = 0.1 + 0.8 / (1 + np.exp(steepness * np.log(2) * (log2 - middle)))
    critical = log2_middle + np.log2(0.8 / (at_one - 0.05) - 1) / steepness
    population, pool, factor = (index.ravel() for index in np.indices(accuracy.shape))
    pool_id = population * log2_middle.shape[1] + pool
    made = pd.DataFrame({"population": population, "pool_id": pool_id, "members": [["0", "1"]] * len(pool)})
    made = made.assign(**PLAIN, n_members=2, accuracy=accuracy.ravel(), chance=0.1, chance_source="classes")
    return made.assign(
        scaling_factor=2.0 ** log2[factor],
        scaling=np.where(factor == 0, "none", "magnify"),
        scaling_settings=np.where(factor == 0, "{}", [f'{{"factor": {place}}}' for place in factor]),
    ), critical


def critical_factors(made: pd.DataFrame) -> pd.DataFrame:
    found = scale_sensitivity(made)
    return found[found["quantity"] == "critical factor above 1"].sort_values("population")


@pytest.mark.parametrize(("step", "near"), [(0.5, 0.04), (0.25, 0.015)])
def test_a_critical_factor_is_found_between_steps(step: float, near: float) -> None:
    made, critical = fallen(np.random.default_rng(3).uniform(1.5, 4, (POPULATIONS, 3)), step)
    ratio = critical_factors(made)["estimate"].to_numpy() / 2 ** np.median(critical, axis=1)
    assert np.abs(ratio - 1).max() < near


def test_the_interval_of_a_median_covers_though_some_pools_never_fall() -> None:
    middle = 4.9 + 0.7 * np.random.default_rng(4).standard_normal((POPULATIONS, 8))
    made, _ = fallen(middle, 0.25)
    truth = fallen(np.array([[4.9]]), 0.25)[1].item()
    found = critical_factors(made)
    share = ((found["low"] <= 2**truth) & (2**truth <= found["high"])).mean()
    assert 0.2 < found["censored"].mean() < 0.5
    assert share >= 0.95
