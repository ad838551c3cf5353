"""How differently the members of a pool err, and what averaging their probabilities makes of it."""

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
Found = dict[str, tuple[np.ndarray, np.ndarray]]  # quantity -> values of the pairs, why they are not defined

CONSTANT, EMPTY = "a member that is always right or always wrong", "an empty cell of the table of right and wrong"


def diversity(
    candidates: pd.DataFrame, predictions: pd.DataFrame, *, by: Sequence[str] = ("population", "n_members")
) -> pd.DataFrame:
    """Four measures of how members differ: mean in each pool, then t over pools, per group and `quantity`.

    Over the pairs of `single` members (`n_members` 2), from their predictions: `disagreement`, the share of examples
    with different classes; `error correlation`, of the indicators of an error; Q = (n11 n00 - n10 n01) / (n11 n00 +
    n10 n01), not defined where a cell is empty, as it often is at 99% accuracy. Over the merged subsets, `ambiguity`:
    mean Brier score of the members minus that of their probability_average, which is exactly their mean squared
    distance to it (Krogh and Vedelsby 1995); 0-1 loss has no such identity. Accurate members differ little whatever
    they are: compare pools of like accuracy. A pair or subset without its value is left out and counted in `warnings`.
    Raises AnalysisError for missing columns, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    require(candidates, ("n_members", *METRICS))
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    values, told = _of_pairs(rows[rows["label"] == "single"], predictions, by), ""
    try:
        values = pd.concat([values, _ambiguities(candidates, by)], ignore_index=True)
    except AnalysisError as error:
        told = f"no ambiguity: {error.what}"
    refuse_mixture(values, by)
    values["quantity"] = pd.Categorical(values["quantity"], QUANTITIES, ordered=True)
    found = estimate_over_pools(values, [*by, "quantity"], estimand="diversity of members", noun="pair")
    return found.astype({"quantity": str}).assign(warnings=[(*one, told) if told else one for one in found["warnings"]])


def _of_pairs(single: pd.DataFrame, predictions: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One line per pair of members of a pool and quantity: groups, `quantity`, `value` and `reason`."""
    if single.empty:
        raise NothingToDrawError("candidates", "no rows of `single`")
    said = with_predictions(single.assign(n_members=2), predictions, ("correct", "classes"))
    said = said.assign(place=said.groupby([*UNIT, *FIXED], dropna=False, sort=True).ngroup())
    said = said.sort_values(["place", "candidate_id"], ignore_index=True)
    starts = np.flatnonzero(np.diff(said["place"], prepend=-1))
    columns = [said[name].to_numpy(object) for name in ("reason", "n_said", "correct", "classes")]
    pools = [_pool(*own) for own in zip(*(np.split(column, starts[1:]) for column in columns), strict=True)]
    about = said.loc[starts, list(dict.fromkeys([*by, *FIXED, "pool_id"]))]
    frames = []
    for name in OF_PAIRS:
        values, reasons = zip(*(pool[name] for pool in pools), strict=True)
        lines = about.iloc[np.repeat(np.arange(len(pools)), [len(each) for each in values])]
        frames.append(lines.assign(quantity=name, value=np.concatenate(values), reason=np.concatenate(reasons)))
    return pd.concat(frames, ignore_index=True)


def _pool(lost: np.ndarray, examples: np.ndarray, correct: np.ndarray, classes: np.ndarray) -> Found:
    """The quantities of the pairs of one pool; a pool of one member has one line of each, which says so."""
    a, b = np.triu_indices(len(lost), 1)
    if not len(a):
        return dict.fromkeys(OF_PAIRS, (np.array([np.nan]), np.array(["a pool of one member"], object)))
    why = np.where(lost[a] != "", lost[a], lost[b])
    right, said = _answers(np.flatnonzero(lost == ""), examples, correct, classes)
    found = {}
    for name, (values, undefined) in _measures(right, said, a, b).items():
        reasons = np.where(why != "", why, undefined)
        found[name] = np.where(reasons == "", values, np.nan), reasons
    return found


def _answers(
    usable: np.ndarray, examples: np.ndarray, correct: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each member is right and which class it says, (members, examples) each; zeros where it is not usable."""
    counts = sorted({int(examples[place]) for place in usable})
    if len(counts) > 1:
        what = f"members of one pool with {counts[0]} and {counts[-1]} examples"
        raise AnalysisError("predictions", what, "evaluate them alike, or filter")
    shape = (len(correct), counts[0] if counts else 1)
    right, said = np.zeros(shape), np.zeros(shape, np.uint16)
    for place in usable:
        right[place] = predicted.bits(correct[place], counts[0])
        said[place] = predicted.classes(classes[place], counts[0])
    return right, said


def _measures(right: np.ndarray, said: np.ndarray, a: np.ndarray, b: np.ndarray) -> Found:
    """The value of each quantity for the pairs (a, b), and why it is not defined (empty where it is)."""
    n, both, alone = right.shape[1], right @ right.T, right.sum(axis=1)
    n11 = both[a, b]
    n10, n01 = alone[a] - n11, alone[b] - n11
    agree, differ = n11 * (n - n11 - n10 - n01), n10 * n01
    differing = np.array([np.count_nonzero(said[i] != said[j]) for i, j in zip(a, b, strict=True)]) / n
    spread = np.sqrt(alone[a] * (n - alone[a]) * alone[b] * (n - alone[b]))
    with np.errstate(invalid="ignore"):
        correlation, q = (agree - differ) / spread, (agree - differ) / (agree + differ)
    constant, empty = np.where(spread > 0, "", CONSTANT), np.where((agree > 0) & (differ > 0), "", EMPTY)
    return dict(zip(OF_PAIRS, ((differing, np.full(len(a), "")), (correlation, constant), (q, empty)), strict=True))


def _ambiguities(candidates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One line per merged subset, as those of pairs: how much better the averaged probabilities are by Brier score."""
    rows = pair_candidates(candidates, MEAN_MEMBER, AVERAGE, "brier", by)
    if not (rows["label"] == AVERAGE).any():
        raise NothingToDrawError("candidates", f"no rows of `{AVERAGE}`")
    found = paired_differences(rows[rows["n_members"] > 1], MEAN_MEMBER, AVERAGE, "brier", by)
    keep = list(dict.fromkeys([*by, *FIXED, "pool_id"]))
    return found[[*keep, "value", "reason"]].assign(quantity=AMBIGUITY)
