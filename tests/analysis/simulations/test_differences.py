"""Simulated populations: how often intervals, p and verdicts of differences are right, compared with rows as units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.estimate import DIFFERENT, EQUIVALENT, INCONCLUSIVE, pool_mean
from analysis.inference.verdict import adjust_and_judge
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.power import power
from analysis.statistics.two_way_difference import two_way_difference
from tests.helpers import rows

pytestmark = pytest.mark.slow
TIMES = 500
MARGIN = 0.5
SIDES = (("uniform_soup", "weights"), ("logit_average", "logits"))


def frame(gains: np.ndarray, subsets: Sequence[Sequence[Sequence[int]]]) -> pd.DataFrame:
    """Gains of shape (populations, pools, subsets) as rows; `subsets` has one list of subsets per population."""
    populations, pools, count = gains.shape
    members = np.empty((populations, pools, count), dtype=object)
    for index, own in enumerate(subsets):
        for place, subset in enumerate(own):
            for pool in range(pools):
                members[index, pool, place] = [str(member) for member in subset]
    names = np.repeat(np.arange(populations), pools * count)
    pool = np.tile(np.repeat(np.arange(pools), count), populations)
    one = rows.frame([rows.candidate(0, (0, 1), "uniform_soup")])
    plain = one.loc[one.index.repeat(gains.size)].assign(
        population=np.char.mod("%04d", names),
        pool_id=np.char.mod("%d", names * pools + pool),
        pool=pool,
        members=members.ravel(),
        n_members=len(subsets[0][0]),
    )
    levels = (gains.ravel(), np.zeros(gains.size))
    sides = zip(SIDES, levels, strict=True)
    both = [plain.assign(method=method, space=space, accuracy=level) for (method, space), level in sides]
    return pd.concat(both, ignore_index=True)


def alike(gains: np.ndarray) -> pd.DataFrame:
    """Gains of shape (populations, pools), each of one subset."""
    return frame(gains[:, :, None], [[(0, 1)]] * len(gains))


def covered(found: pd.DataFrame, truth: float | np.ndarray) -> float:
    return float(((found["low"] <= truth) & (truth <= found["high"])).mean())


def rejected(found: pd.DataFrame) -> float:
    return float((found["p"].astype(float) < 0.05).mean())


def share(found: pd.DataFrame, verdict: str) -> float:
    return float((found["verdict"] == verdict).mean())


def of_subsets(random: np.random.Generator, subsets: np.ndarray, pools: int, members: int, pool: float) -> np.ndarray:
    """Gains of dependent subsets, shape (TIMES, pools, subsets): a pool's own, its members' means, and noise."""
    own = random.normal(0, 1, (TIMES, pools, members))
    shared = random.normal(0, pool, (TIMES, pools, 1)) if pool else 0.0
    return own[:, :, subsets].mean(-1) + shared + random.normal(0, 0.2, (TIMES, pools, len(subsets)))


def rows_cover(gains: np.ndarray) -> float:
    """How often t over all rows of a population covers 0, as if subsets were replicates."""
    flat = gains.reshape(len(gains), -1)
    n = flat.shape[1]
    half = stats.t.ppf(0.975, n - 1) * flat.std(axis=1, ddof=1) / math.sqrt(n)
    return float((np.abs(flat.mean(axis=1)) <= half).mean())


@pytest.mark.parametrize("pools", [5, 8, 12, 20])
def test_intervals_over_pools_cover_and_intervals_over_rows_do_not(pools: int) -> None:
    subsets = np.array(list(itertools.combinations(range(6), 3)))
    gains = of_subsets(np.random.default_rng(pools), subsets, pools, 6, 1.0)
    found = paired_difference(frame(gains, [subsets.tolist()] * TIMES))
    assert (found["n_units"] == pools).all()
    assert 0.93 <= covered(found, 0.0) <= 0.97
    assert 0.03 <= rejected(found) <= 0.07
    assert rows_cover(gains) < 0.6
    if pools > 5:
        assert (found["sign_flip_p"] <= 0.05).mean() <= 0.07


@pytest.mark.parametrize(("members", "size", "random_subsets"), [(8, 2, False), (10, 3, True), (10, 5, True)])
def test_one_pool_finds_too_little_rather_than_too_much(members: int, size: int, random_subsets: bool) -> None:
    random = np.random.default_rng(members + size)
    every = np.array(list(itertools.combinations(range(members), size)))
    picks = [random.permutation(len(every))[: 20 if random_subsets else None] for _ in range(TIMES)]
    subsets = [every[pick] for pick in picks]
    gains = np.concatenate([of_subsets_of_one(random, own, members) for own in subsets])
    found = paired_difference(frame(gains, [own.tolist() for own in subsets]))
    assert (found["unit"] == "member").all()
    assert rejected(found) <= 0.07
    assert covered(found, 0.0) >= 0.93
    assert rows_cover(gains) < 0.75


def of_subsets_of_one(random: np.random.Generator, subsets: np.ndarray, members: int) -> np.ndarray:
    """Gains of the subsets of one pool, shape (1, 1, subsets)."""
    own = random.normal(0, 1, members)
    return (own[subsets].mean(-1) + random.normal(0, 0.2, len(subsets)))[None, None]


def test_these_cells_and_new_cells_are_two_questions() -> None:
    random = np.random.default_rng(1)
    cells = 6
    pools = 6
    level = random.normal(0, 1, (TIMES, cells))
    noise = random.normal(0, 1, (TIMES, cells, pools)) * np.linspace(0.5, 1.5, cells)[:, None]
    made = alike((level[:, :, None] + noise).reshape(TIMES * cells, pools))
    made = made.assign(sweep=[f"{int(name) // cells:04d}" for name in made["population"]])
    these = paired_difference(made, by=["sweep"], over="these cells")
    new = paired_difference(made, by=["sweep"], over="new cells")
    assert 0.93 <= covered(these, level.mean(axis=1)) <= 0.97
    assert covered(these, 0.0) < 0.7
    assert 0.93 <= covered(new, 0.0) <= 0.97
    assert covered(new, level.mean(axis=1)) > 0.97


def test_new_examples_widen_the_interval_over_pools() -> None:
    random = np.random.default_rng(2)
    pools = 8
    examples = 2000
    tables = evaluated(random, pools, examples)
    found = two_way_difference(*tables)
    alone = found.assign(
        low=found["estimate"] - stats.t.ppf(0.975, pools - 1) * found["se_pools"],
        high=found["estimate"] + stats.t.ppf(0.975, pools - 1) * found["se_pools"],
    )
    assert 0.93 <= covered(found, 0.0) <= 0.99
    assert covered(alone, 0.0) < 0.85


def evaluated(random: np.random.Generator, pools: int, examples: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidates and predictions of two methods that are equally right over all examples and pools.

    Some examples suit one method, whatever the pool; some pools suit one method, whatever the example.
    """
    packed = np.empty((2, TIMES, pools, -(-examples // 8)), np.uint8)
    for index in range(TIMES):
        suits = random.choice(np.array([-1, 0, 1], np.float32), examples, p=[0.05, 0.9, 0.05])
        pool = random.normal(0, 0.004, (pools, 1)).astype(np.float32)
        for side, sign in enumerate((1, -1)):
            chance = 0.9 - 0.4 * np.abs(suits) + sign * (0.45 * suits + pool)
            packed[side, index] = np.packbits(random.random(chance.shape, np.float32) < chance, axis=1)
    made = alike(np.zeros((TIMES, pools)))
    ids = np.char.mod("%05d", np.arange(len(made)))
    known = pd.DataFrame({"candidate_id": ids, "split": "test", "n_examples": examples})
    return made.assign(candidate_id=ids), known.assign(correct=[row.tobytes() for row in packed.reshape(len(ids), -1)])


def test_equal_methods_are_found_equivalent_and_the_margin_is_not() -> None:
    random = np.random.default_rng(3)
    quiet = random.normal(0, MARGIN / 4, (TIMES, 12))
    noisy = random.normal(0, MARGIN * 4, (TIMES, 12))
    assert share(paired_difference(alike(quiet), margin=MARGIN), EQUIVALENT) >= 0.95
    at_margin = paired_difference(alike(quiet + MARGIN), margin=MARGIN)
    assert share(at_margin, EQUIVALENT) <= 0.07
    assert share(at_margin, DIFFERENT) >= 0.9
    assert share(paired_difference(alike(noisy), margin=MARGIN), INCONCLUSIVE) >= 0.9


def test_skewed_pools_cost_some_coverage() -> None:
    random = np.random.default_rng(4)
    found = paired_difference(alike(random.gamma(2.0, 1.0, (TIMES, 8)) - 2.0))
    assert 0.90 <= covered(found, 0.0) <= 0.95


def test_the_pools_that_power_asks_for_find_the_effect() -> None:
    random = np.random.default_rng(5)
    pilot = power(alike(random.normal(0, 1, (TIMES, 8))), effect=0.8)
    assert 0.93 <= covered(pilot, 1.0) <= 0.97
    assert rejected(paired_difference(alike(random.normal(0.8, 1, (TIMES, 15))))) >= 0.78
    assert rejected(paired_difference(alike(random.normal(0.8, 1, (TIMES, 11))))) <= 0.75


def test_holm_controls_a_family_of_nulls() -> None:
    random = np.random.default_rng(6)
    plain = 0
    controlled = 0
    for values in random.normal(0, 1, (TIMES, 12, 8)):
        family = pd.DataFrame([asdict(pool_mean(one, null=0.0)) for one in values])
        plain += (family["verdict"] == DIFFERENT).any()
        controlled += (adjust_and_judge(family, "holm")["verdict"] == DIFFERENT).any()
    assert controlled / TIMES <= 0.07
    assert plain / TIMES > 0.35
