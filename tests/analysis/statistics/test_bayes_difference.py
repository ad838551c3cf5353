"""Posterior probabilities of a difference: against scipy's t, against integration by brute force, and simulated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import fftconvolve

from analysis.core.errors import AnalysisError
from analysis.inference.hierarchical import cell_posterior
from analysis.report.claims import answers, lines, table
from analysis.rows.run import Run
from analysis.statistics.bayes_difference import bayes_difference
from analysis.statistics.paired_difference import paired_difference
from tests.helpers import rows

Array = NDArray[np.float64]
SHARES = ["p_below", "p_within", "p_above"]


def candidates(**gains: list[float]) -> pd.DataFrame:
    """Soups that differ from the average of logits by the given amounts, one per pool of each population."""
    made = []
    for name, of in gains.items():
        for pool, gain in enumerate(of):
            made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=0.8 + gain, population=name))
            made.append(rows.candidate(pool, (0, 1), "logit_average", space="logits", accuracy=0.8, population=name))
    return rows.frame(made)


GAINS = {"cnn": [0.01, 0.02, 0.004, 0.012], "mlp": [0.0, 0.01, -0.006], "vit": [-0.002, 0.004, 0.009, 0.001, 0.0]}


def test_a_cell_has_the_t_distribution_around_its_mean() -> None:
    frame = candidates(**GAINS)
    found = bayes_difference(frame, margin=0.003).query("quantity == 'cell'")
    reference = paired_difference(frame, margin=0.003)
    for name in ("population", "estimate", "low", "high", "p", "verdict", "n_units"):
        assert found[name].tolist() == reference[name].tolist()
    for (_, row), gains in zip(found.iterrows(), GAINS.values(), strict=True):
        posterior = stats.t(len(gains) - 1, np.mean(gains), stats.sem(gains))
        below, up_to = posterior.cdf([-0.003, 0.003])
        np.testing.assert_allclose(row[SHARES].astype(float), [below, up_to - below, 1 - up_to], atol=1e-12)


def test_one_pool_and_no_spread_have_no_probabilities() -> None:
    found = bayes_difference(candidates(cnn=[0.01], mlp=[0.02, 0.02], vit=[0.01, 0.03])).set_index("population")
    assert found.loc[["cnn", "mlp"], SHARES].isna().all(axis=None)
    assert found.loc["vit", SHARES].sum() == pytest.approx(1)
    assert set(found["quantity"]) == {"cell"}


def test_the_rows_of_all_cells_name_prior_and_cells() -> None:
    frame = candidates(**GAINS, one=[0.5])
    found = bayes_difference(frame, margin=0.005).set_index(["population", "quantity"])
    mean = found.loc[("all populations", "mean over cells")]
    new = found.loc[("all populations", "new cell")]
    assert mean["warnings"] == (
        "prior of the spread between cells: half-Cauchy of scale 0.01",
        "1 cell left out: one pool, or no spread",
    )
    assert (mean["unit"], mean["n_units"]) == ("cell", 3)
    assert new["low"] < mean["low"] < mean["estimate"] < mean["high"] < new["high"]
    assert mean[SHARES].sum() == pytest.approx(1)
    wide = bayes_difference(frame, between=1.0).set_index(["population", "quantity"])
    assert wide.loc[("all populations", "new cell"), "high"] > new["high"]
    pair = bayes_difference(candidates(cnn=GAINS["cnn"], mlp=GAINS["mlp"]))
    assert pair["warnings"].iloc[-1][-1] == "two cells: the spread between cells rests on its prior"


def test_settings_that_are_not_above_zero_are_refused() -> None:
    for values in ({"margin": 0.0}, {"between": -1.0}):
        with pytest.raises(AnalysisError, match="not above 0"):
            bayes_difference(candidates(**GAINS), **values)


def test_claims_have_the_probabilities_beside_their_verdict(run: Run) -> None:
    found = answers(run)
    known = [row for row in table(found) if row["verdict_of_claim"] != "not asked"]
    assert len(known) > 4
    for row in known:
        posterior = stats.t(row["df"], row["estimate"], row["se"])
        ends = posterior.cdf([-row["margin"], row["margin"]])
        np.testing.assert_allclose([row["p_below"], row["p_below"] + row["p_within"]], ends, atol=1e-9)
        assert row["p_above"] == pytest.approx(1 - ends[1], abs=1e-9)
    text = "\n".join(lines(found))
    assert text.count("P(below, within, above the margin) ") == len(known)


def integrated(means: Array, errors: Array, df: Array, between: float) -> tuple[Array, Array, Array]:
    """Centres, spreads, and the posterior of both on plain grids: effects of cells are integrated on a third."""
    centre = np.linspace(-0.3, 0.3, 601)
    spread = np.geomspace(2e-5, 2, 90)
    effect = np.linspace(-0.8, 0.8, 3201)
    half = (effect[1] - effect[0]) / 2
    likelihood = stats.t.pdf((means - effect[:, None]) / errors, df)
    log_density = np.zeros((len(spread), len(centre)))
    for index, one in enumerate(spread):
        gaps = np.linspace(-0.8, 0.8, 3201)
        kernel = stats.norm.cdf((gaps + half) / one) - stats.norm.cdf((gaps - half) / one)
        smooth = np.array([fftconvolve(column, kernel, "same") for column in likelihood.T])
        log_density[index] = sum(np.log(np.interp(centre, effect, row)) for row in smooth)
    weights = np.exp(log_density - log_density.max()) * (spread / (spread**2 + between**2))[:, None]
    return centre, spread, weights / weights.sum()


@pytest.mark.parametrize("between", [0.002, 0.05])
def test_the_hierarchical_posterior_is_that_of_brute_force(between: float) -> None:
    means = np.array([0.01, 0.02, -0.005])
    errors = np.array([0.004, 0.008, 0.006])
    df = np.array([4.0, 2.0, 7.0])
    centre, spread, weights = integrated(means, errors, df, between)
    posterior = cell_posterior(means, errors, df, between)
    marginal = weights.sum(axis=0)
    cumulative = np.cumsum(marginal) - marginal / 2
    width = (centre[1] - centre[0]) / np.sqrt(12)
    for value in (-0.02, -0.005, 0.0, 0.005, 0.01, 0.03):
        assert posterior.below(value) == pytest.approx(np.interp(value, centre, cumulative), abs=2e-3)
        new = (weights * stats.norm.cdf((value - centre) / np.hypot(spread[:, None], width))).sum()
        assert posterior.below(value, new_cell=True) == pytest.approx(new, abs=2e-3)
    for share in (0.025, 0.5, 0.975):
        assert posterior.below(posterior.quantile(share)) == pytest.approx(share, abs=1e-9)
        at = posterior.quantile(share, new_cell=True)
        assert posterior.below(at, new_cell=True) == pytest.approx(share, abs=1e-9)


def test_cells_that_are_one_number_repeated_shrink_to_it() -> None:
    alone = cell_posterior(np.full(8, 0.01), np.full(8, 0.001), np.full(8, 50.0), 1e-6)
    assert alone.quantile(0.5) == pytest.approx(0.01, abs=1e-5)
    spread = alone.quantile(0.975) - alone.quantile(0.025)
    assert spread == pytest.approx(2 * 1.96 * 0.001 / np.sqrt(8), rel=0.05)


@pytest.mark.slow
def test_posteriors_are_calibrated_where_the_prior_is_true() -> None:
    random = np.random.default_rng(0)
    times = 200
    between = 0.01
    ranks = []
    for _ in range(times):
        spread = abs(between * random.standard_cauchy())
        effects = 0.003 + spread * random.standard_normal(5)
        values = effects[:, None] + 0.01 * random.standard_normal((5, 6))
        errors = values.std(axis=1, ddof=1) / np.sqrt(6)
        posterior = cell_posterior(values.mean(axis=1), errors, np.full(5, 5.0), between)
        fresh = 0.003 + spread * random.standard_normal()
        ranks.append([posterior.below(0.003), posterior.below(fresh, new_cell=True)])
    for own in np.array(ranks).T:
        assert stats.kstest(own, "uniform").pvalue > 0.01
        assert 0.91 <= ((own > 0.025) & (own < 0.975)).mean() <= 0.985
