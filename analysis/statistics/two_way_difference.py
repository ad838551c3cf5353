"""Difference between two methods, for new pools and new test examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import ROUNDING, Estimate, Question, student
from analysis.rows.pairing import group_numbers, group_pairs, pair_candidates, paired_differences
from analysis.rows.select import MEAN_MEMBER, UNIT, refuse_duplicates, require, unscaled

CITES = ("student1908mean", "schuirmann1987comparison", "miller2024errorbars")

EXAMPLES = ("candidate_id", "split")
UNKNOWN = "no predictions"
CHUNK = 512
"""Candidates whose bits are unpacked at once: 40 MB as float64 at 10,000 examples."""


@dataclass(frozen=True)
class Spreads:
    """The differences of one group: number of pools, mean, and standard errors of the mean."""

    pools: int = 0
    estimate: float = math.nan
    se_pools: float = math.nan
    se_examples: float = math.nan
    se: float = math.nan


def two_way_difference(
    candidates: pd.DataFrame,
    predictions: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    by: Sequence[str] = ("population", "n_members"),
    margin: float | None = None,
) -> pd.DataFrame:
    """Accuracy of `a` minus accuracy of `b`, as `paired_difference`, for new pools and new test examples.

    Pools share one test set, so more pools alone do not account for the choice of examples: with 2,000 examples, t over
    pools covers the effect on all examples in 78%. From the bits of `predictions`, each pool's mean difference on each
    example gives V = V_pools + V_examples - V_interaction, never below V_pools, and t with pools - 1 degrees of
    freedom. `se_pools` is the standard error over pools alone (for these examples), `se_examples` over examples alone
    (for these pools). Values and `margin` are fractions. With one pool the interval is infinite. A pair with a row that
    is not `ok` or has no predictions is left out and counted in `warnings`. Raises AnalysisError as
    `paired_difference`, and where a group mixes data sets or numbers of examples.
    """
    require(candidates, (*EXAMPLES, "dataset"))
    require(predictions, (*EXAMPLES, "n_examples", "correct"))
    known = predictions[[*EXAMPLES, "n_examples", "correct"]].sort_values(list(EXAMPLES), ignore_index=True)
    refuse_duplicates(known, EXAMPLES)
    rows = pair_candidates(candidates, a, b, "accuracy", by)
    pairs = paired_differences(rows, a, b, "accuracy", [*by, "dataset"])
    terms = _locate(pd.concat([_side(rows, pairs, a, "row_a", 1.0), _side(rows, pairs, b, "row_b", -1.0)]), known)
    pairs = _with_reasons(pairs, terms).assign(group=group_numbers(pairs, by))
    used = terms.merge(pairs.loc[pairs["reason"] == "", ["group", *UNIT]], left_on="pair", right_index=True)
    _refuse_other_examples(pairs, used, known)
    question = Question(f"accuracy: {a} minus {b}, for new pools and new examples", "pool", 0.0, margin)
    spreads = {number: _spreads(matrix) for number, matrix in _matrices(used, known)}
    found = []
    for number, group in enumerate(group_pairs(pairs, by)):
        one = spreads.get(number, Spreads())
        estimate = _estimate(one, question, group.warnings)
        found.append({**group.key, "se_pools": one.se_pools, "se_examples": one.se_examples, **asdict(estimate)})
    return pd.DataFrame(found)


def _side(rows: pd.DataFrame, pairs: pd.DataFrame, label: str, column: str, sign: float) -> pd.DataFrame:
    """The candidates that make one side of each usable pair: `pair`, `split`, `candidate_id`, `weight`.

    A mean member consists of the single members of its subset.
    """
    usable = pairs[pairs["reason"] == ""]
    if label != MEAN_MEMBER:
        ids = rows["candidate_id"].to_numpy()[usable[column]]
        return pd.DataFrame({"pair": usable.index, "split": usable["split"], "candidate_id": ids, "weight": sign})
    place = [*UNIT, "split", "protocol", "member"]
    each = usable.assign(pair=usable.index, member=[text.split("|") for text in usable["subset"]])
    each = each.assign(weight=sign / each["member"].map(len)).explode("member")[["pair", *place, "weight"]]
    single = unscaled(rows[rows["label"] == "single"]).rename(columns={"subset": "member"})
    found = each.merge(single[[*place, "candidate_id"]], "left", on=place)
    return found[["pair", "split", "candidate_id", "weight"]]


def _locate(terms: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The terms with `bits`, the row of their predictions; -1 if they have none.

    Raises NothingToDrawError if no term has predictions.
    """
    kept = known.loc[known["correct"].notna(), list(EXAMPLES)]
    found = terms.merge(kept.assign(bits=kept.index), "left", on=list(EXAMPLES))
    if len(found) and found["bits"].isna().all():
        raise NothingToDrawError("predictions", "no predictions of these methods")
    return found.assign(bits=found["bits"].fillna(-1).astype(int))


def _with_reasons(pairs: pd.DataFrame, terms: pd.DataFrame) -> pd.DataFrame:
    """The pairs, with a reason for those with a candidate without predictions."""
    missing = pairs.index.isin(terms.loc[terms["bits"] < 0, "pair"])
    return pairs.assign(reason=pairs["reason"].mask(missing, UNKNOWN))


def _refuse_other_examples(pairs: pd.DataFrame, used: pd.DataFrame, known: pd.DataFrame) -> None:
    """Raises AnalysisError for a group whose pools have different test examples, or fewer than two."""
    if pairs.groupby("group")["dataset"].nunique().gt(1).any():
        raise AnalysisError("rows", "a group mixes several data sets", "group by `dataset` or `population`")
    counts = used.assign(n=known["n_examples"].to_numpy()[used["bits"]]).groupby("group")["n"].agg(["min", "max"])
    mixed = counts[counts["min"] != counts["max"]]
    if len(mixed):
        low, high = mixed.iloc[0]
        what = f"a group mixes test sets of {low} and {high} examples"
        raise AnalysisError("predictions", what, "pools must share one test set; evaluate them alike, or filter")
    if (counts["min"] < 2).any():
        raise AnalysisError("predictions", "a test set of fewer than two examples", "filter the rows")


def _matrices(used: pd.DataFrame, known: pd.DataFrame) -> Iterator[tuple[int, np.ndarray]]:
    """Each group's number with the mean difference of its pools (in order of ids), shape (pools, examples)."""
    pool = used.groupby(["group", *UNIT], dropna=False, sort=True).ngroup().to_numpy()
    order = np.argsort(pool, kind="stable")
    group, bits, weight, pair = (used[name].to_numpy()[order] for name in ("group", "bits", "weight", "pair"))
    packed = _packed(known, bits)
    counts = known["n_examples"].to_numpy()
    ends = np.searchsorted(pool[order], np.arange(pool.max(initial=-1) + 2))
    pools = [slice(start, end) for start, end in itertools.pairwise(ends)]
    for number, own in itertools.groupby(pools, lambda one: int(group[one.start])):
        means = [_one_pool(bits[one], weight[one] / len(np.unique(pair[one])), packed, counts) for one in own]
        yield number, np.array(means)


def _packed(known: pd.DataFrame, used: np.ndarray) -> np.ndarray:
    """The packed bits of every candidate. Raises AnalysisError if a used candidate has not one bit per example."""
    packed: np.ndarray = known["correct"].to_numpy(object)
    rows = np.unique(used)
    sizes = np.array([len(packed[row]) for row in rows], int)
    wrong = rows[sizes != -(-known["n_examples"].to_numpy()[rows] // 8)]
    if len(wrong):
        name = known["candidate_id"].iloc[wrong[0]]
        raise AnalysisError("predictions", f"`correct` of {name} has not one bit per example", "evaluate it again")
    return packed


def _one_pool(bits: np.ndarray, weights: np.ndarray, packed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The weighted sum of the correctness of one pool's candidates on each example, shape (examples,).

    A candidate that is in several pairs, such as a single member, is unpacked once.
    """
    rows, index = np.unique(bits, return_inverse=True)
    weights = np.bincount(index, weights)
    n = int(counts[rows[0]])
    total = np.zeros(n)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        bytes_ = np.frombuffer(b"".join(packed[rows[part]]), np.uint8).reshape(len(rows[part]), -1)
        total += weights[part] @ np.unpackbits(bytes_, axis=1, count=n)
    return total


def _spreads(matrix: np.ndarray) -> Spreads:
    """The mean and the standard errors of differences of shape (pools, examples)."""
    pools = len(matrix)
    estimate = float(matrix.mean())
    se_examples = _se(matrix.mean(axis=0))
    if pools == 1:
        return Spreads(1, estimate, math.nan, se_examples)
    se_pools = _se(matrix.mean(axis=1))
    rest = matrix - matrix.mean(axis=1, keepdims=True) - matrix.mean(axis=0) + estimate
    interaction = float((rest**2).sum()) / ((pools - 1) * (matrix.shape[1] - 1) * matrix.size)
    se = math.sqrt(max(se_pools**2, se_pools**2 + se_examples**2 - interaction))
    return Spreads(pools, estimate, se_pools, se_examples, se)


def _se(values: np.ndarray) -> float:
    """The standard error of the mean of the values; 0 where they differ by rounding alone."""
    found = float(values.std(ddof=1)) / math.sqrt(len(values))
    return found if found > ROUNDING else 0.0


def _estimate(found: Spreads, question: Question, warnings: Sequence[str]) -> Estimate:
    """The estimate of one group."""
    n = found.pools
    if n < 2:
        warnings = (*warnings, "one pool: no interval can be given" if n else "no pool: nothing to estimate")
    return student(found.estimate, found.se, max(n - 1.0, 0.0), n, question, warnings)
