"""Differences between two methods on each test example, from the bits of the table `predictions`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.two_way import Examples, rounded
from analysis.rows.select import MEAN_MEMBER, UNIT, refuse_duplicates, require, unscaled

EXAMPLES = ("candidate_id", "split")
CHUNK = 512
"""Candidates whose bits are unpacked at once: 40 MB as float64 at 10,000 examples."""


def sorted_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """The columns that `example_means` needs, one row per candidate and split.

    Raises AnalysisError for a missing column or duplicated rows.
    """
    require(predictions, (*EXAMPLES, "n_examples", "correct"))
    known = predictions[[*EXAMPLES, "n_examples", "correct"]].sort_values(list(EXAMPLES), ignore_index=True)
    refuse_duplicates(known, EXAMPLES)
    return known


def pair_terms(rows: pd.DataFrame, pairs: pd.DataFrame, a: str, b: str, known: pd.DataFrame) -> pd.DataFrame:
    """The candidates of each usable pair: `pair`, `weight` (1 on the side of `a`, -1 on that of `b`) and `bits`.

    `rows` and `pairs` are those of `pair_candidates` and `paired_differences`; `bits` is the row in `known`, -1 if it
    has no predictions. Raises NothingToDrawError if no candidate has any.
    """
    terms = pd.concat([_side(rows, pairs, a, "row_a", 1.0), _side(rows, pairs, b, "row_b", -1.0)])
    found = _with_bits(terms, known)
    if len(found) and (found["bits"] < 0).all():
        raise NothingToDrawError("predictions", "no predictions of these methods")
    return found


def _with_bits(terms: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The terms with `bits`, the row of their predictions in `known`; -1 if they have none."""
    kept = known.loc[known["correct"].notna(), list(EXAMPLES)]
    found = terms.merge(kept.assign(bits=kept.index), "left", on=list(EXAMPLES))
    return found.assign(bits=found["bits"].fillna(-1).astype(int))


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


def example_means(terms: pd.DataFrame, known: pd.DataFrame) -> list[np.ndarray]:
    """The weighted sum of the correctness of the candidates of each `pool` (0, 1, …) on each example, (examples,).

    `terms` has the columns pool, bits and weight. Raises AnalysisError for bits of another length than the number of
    examples, and for a pool with several test sets.
    """
    order = np.argsort(terms["pool"].to_numpy(), kind="stable")
    pool, bits, weight = (terms[name].to_numpy()[order] for name in ("pool", "bits", "weight"))
    packed = _packed(known, bits)
    counts = known["n_examples"].to_numpy()
    ends = np.searchsorted(pool, np.arange(pool.max(initial=-1) + 2))
    places = [slice(start, end) for start, end in itertools.pairwise(ends)]
    return [_one_pool(bits[one], weight[one], packed, counts) for one in places]


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
    sizes = np.unique(counts[rows])
    if len(sizes) > 1:
        what = f"a pool mixes test sets of {sizes[0]} and {sizes[-1]} examples"
        raise AnalysisError("predictions", what, "evaluate its candidates alike, or filter")
    n = int(sizes[0])
    total = np.zeros(n)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        bytes_ = np.frombuffer(b"".join(packed[rows[part]]), np.uint8).reshape(len(rows[part]), -1)
        total += weights[part] @ np.unpackbits(bytes_, axis=1, count=n)
    return total


def pool_examples(
    rows: pd.DataFrame, pairs: pd.DataFrame, a: str, b: str, predictions: pd.DataFrame | None
) -> Mapping[str, Examples] | None:
    """The differences of each pool on each example, by pool_id; None unless every usable pair has its predictions.

    `pairs` has `share`, the weight of each pair in its pool's value, and the data set of its pool as `dataset`. Raises
    AnalysisError as `example_means`.
    """
    if predictions is None or predictions.empty:
        return None
    known = sorted_predictions(predictions)
    try:
        terms = pair_terms(rows, pairs, a, b, known)
    except NothingToDrawError:
        return None
    if terms.empty or (terms["bits"] < 0).any():
        return None
    own = pairs.loc[terms["pair"], ["pool_id", "dataset", "share"]].reset_index(drop=True)
    terms = terms.assign(pool_id=own["pool_id"], dataset=own["dataset"], weight=terms["weight"] * own["share"])
    return _by_pool(terms, known)


def term_examples(terms: pd.DataFrame, predictions: pd.DataFrame | None) -> Mapping[str, Examples] | None:
    """The weighted sums of pools on each example, by pool_id; None unless every candidate has its predictions.

    `terms` has the columns pool_id, dataset, candidate_id, split and weight. Raises AnalysisError as `example_means`.
    """
    if predictions is None or predictions.empty:
        return None
    known = sorted_predictions(predictions)
    found = _with_bits(terms, known)
    return None if (found["bits"] < 0).any() else _by_pool(found, known)


def _by_pool(terms: pd.DataFrame, known: pd.DataFrame) -> Mapping[str, Examples]:
    """The weighted sum of each pool's candidates on each example."""
    codes, pools = pd.factorize(terms["pool_id"].astype(object), sort=True)
    sets = dict(zip(terms["pool_id"], terms["dataset"], strict=True))
    means = example_means(terms.assign(pool=codes), known)
    weights = terms["weight"].to_numpy()
    reaches = np.maximum(*(np.bincount(codes, np.maximum(side, 0.0)) for side in (weights, -weights))).tolist()
    found = zip(pools, means, reaches, strict=True)
    return {pool: Examples(str(sets[pool]), rounded(one), reach) for pool, one, reach in found}
