"""Diversity of the errors of the members of a pool, and the gain from averaging their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.pairing import pair_candidates, paired_differences
from analysis.rows.select import (
    FIXED,
    MEAN_MEMBER,
    METRICS,
    UNIT,
    refuse_duplicates,
    refuse_mixture,
    require,
    select_split,
)
from analysis.statistics import _predictions as predicted
from analysis.statistics._predictions import with_predictions

CITES = ("kuncheva2003diversity", "krogh1995ambiguity")

OF_PAIRS = ("disagreement", "error correlation", "Q")
AMBIGUITY = "ambiguity"
QUANTITIES = (*OF_PAIRS, AMBIGUITY)
AVERAGE = "probability_average"
Found = dict[str, tuple[np.ndarray, np.ndarray]]  # quantity -> values of the pairs, reasons if undefined

CONSTANT = "a member that is always right or always wrong"
EMPTY = "an empty cell of the table of right and wrong"


def diversity(
    candidates: pd.DataFrame, predictions: pd.DataFrame, *, by: Sequence[str] = ("population", "n_members")
) -> pd.DataFrame:
    """Four measures of diversity: mean in each pool, then Student's t over pools, per group and `quantity`.

    Over the pairs of `single` members (`n_members` 2), from their predictions: `disagreement`, the share of examples
    with different classes; `error correlation`, of the indicators of an error; Q = (n11 n00 - n10 n01) / (n11 n00 +
    n10 n01), undefined if a cell is empty, as it often is at 99% accuracy. Over the merged subsets, `ambiguity`:
    mean Brier score of the members minus that of their probability_average, which is exactly their mean squared
    distance to it (Krogh and Vedelsby 1995); 0-1 loss has no such identity. Accurate members always differ little:
    compare pools of similar accuracy. A pair or subset without its value is left out and counted in `warnings`.
    Raises AnalysisError for missing columns, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    require(candidates, ("n_members", *METRICS))
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    values = _pair_values(rows[rows["label"] == "single"], predictions, by)
    no_ambiguity = ""
    try:
        values = pd.concat([values, _ambiguities(candidates, by)], ignore_index=True)
    except AnalysisError as error:
        no_ambiguity = f"no ambiguity: {error.what}"
    refuse_mixture(values, by)
    values["quantity"] = pd.Categorical(values["quantity"], QUANTITIES, ordered=True)
    found = estimate_over_pools(values, [*by, "quantity"], estimand="diversity of members", noun="pair")
    return found.astype({"quantity": str}).assign(
        warnings=[(*one, no_ambiguity) if no_ambiguity else one for one in found["warnings"]]
    )


def _pair_values(single: pd.DataFrame, predictions: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One line per pair of members of a pool and quantity: groups, `quantity`, `value` and `reason`."""
    if single.empty:
        raise NothingToDrawError("candidates", "no rows of `single`")
    predicted_rows = with_predictions(single.assign(n_members=2), predictions, ("correct", "classes"))
    predicted_rows = predicted_rows.assign(
        place=predicted_rows.groupby([*UNIT, *FIXED], dropna=False, sort=True).ngroup()
    )
    predicted_rows = predicted_rows.sort_values(["place", "candidate_id"], ignore_index=True)
    starts = np.flatnonzero(np.diff(predicted_rows["place"], prepend=-1))
    columns = [predicted_rows[name].to_numpy(object) for name in ("reason", "n_predicted", "correct", "classes")]
    pools = [_pool_pairs(*own) for own in zip(*(np.split(column, starts[1:]) for column in columns), strict=True)]
    about = predicted_rows.loc[starts, list(dict.fromkeys([*by, *FIXED, "pool_id"]))].assign(
        level=predicted_rows.groupby("place")["accuracy"].mean().to_numpy()
    )
    frames = []
    for name in OF_PAIRS:
        values, reasons = zip(*(pool[name] for pool in pools), strict=True)
        lines = about.iloc[np.repeat(np.arange(len(pools)), [len(each) for each in values])]
        frames.append(lines.assign(quantity=name, value=np.concatenate(values), reason=np.concatenate(reasons)))
    return pd.concat(frames, ignore_index=True)


def _pool_pairs(reason: np.ndarray, examples: np.ndarray, correct: np.ndarray, classes: np.ndarray) -> Found:
    """The quantities of the pairs of one pool; a pool of one member has one line of each, with the reason."""
    a, b = np.triu_indices(len(reason), 1)
    if not len(a):
        return dict.fromkeys(OF_PAIRS, (np.array([np.nan]), np.array(["a pool of one member"], object)))
    why = np.where(reason[a] != "", reason[a], reason[b])
    right, classes_predicted = _answers(np.flatnonzero(reason == ""), examples, correct, classes)
    found = {}
    for name, (values, undefined) in _measures(right, classes_predicted, a, b).items():
        reasons = np.where(why != "", why, undefined)
        found[name] = np.where(reasons == "", values, np.nan), reasons
    return found


def _answers(
    usable: np.ndarray, examples: np.ndarray, correct: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correctness and predicted class of each member, (members, examples) each; zeros for unusable members."""
    counts = sorted({int(examples[place]) for place in usable})
    if len(counts) > 1:
        what = f"members of one pool with {counts[0]} and {counts[-1]} examples"
        raise AnalysisError("predictions", what, "evaluate them alike, or filter")
    shape = (len(correct), counts[0] if counts else 1)
    right = np.zeros(shape)
    predicted_classes = np.zeros(shape, np.uint16)
    for place in usable:
        right[place] = predicted.bits(correct[place], counts[0])
        predicted_classes[place] = predicted.classes(classes[place], counts[0])
    return right, predicted_classes


def _measures(right: np.ndarray, classes: np.ndarray, a: np.ndarray, b: np.ndarray) -> Found:
    """The value of each quantity for the pairs (a, b), and the reason if it is undefined (else empty)."""
    n = right.shape[1]
    both = right @ right.T
    alone = right.sum(axis=1)
    n11 = both[a, b]
    n10 = alone[a] - n11
    n01 = alone[b] - n11
    agree = n11 * (n - n11 - n10 - n01)
    differ = n10 * n01
    differing = np.array([np.count_nonzero(classes[i] != classes[j]) for i, j in zip(a, b, strict=True)]) / n
    spread = np.sqrt(alone[a] * (n - alone[a]) * alone[b] * (n - alone[b]))
    with np.errstate(invalid="ignore"):
        correlation = (agree - differ) / spread
        q = (agree - differ) / (agree + differ)
    constant = np.where(spread > 0, "", CONSTANT)
    empty = np.where((agree > 0) & (differ > 0), "", EMPTY)
    return dict(zip(OF_PAIRS, ((differing, np.full(len(a), "")), (correlation, constant), (q, empty)), strict=True))


def _ambiguities(candidates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One line per merged subset, in the format of the pairs: Brier score of the mean member minus the average's."""
    rows = pair_candidates(candidates, MEAN_MEMBER, AVERAGE, "brier", by)
    if not (rows["label"] == AVERAGE).any():
        raise NothingToDrawError("candidates", f"no rows of `{AVERAGE}`")
    found = paired_differences(rows[rows["n_members"] > 1], MEAN_MEMBER, AVERAGE, "brier", by)
    keep = list(dict.fromkeys([*by, *FIXED, "pool_id"]))
    return found[[*keep, "value", "reason"]].assign(quantity=AMBIGUITY)
