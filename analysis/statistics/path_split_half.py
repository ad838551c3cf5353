"""The barrier between two members without selection bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.interpolation import about, above_chord, exclusion_warnings, points
from analysis.rows.select import refuse_duplicates, require

CITES = ("frankle2020linear", "student1908mean")

KEY = ["candidate_id", "split"]
BLOCK = 4096
"""Rows of packed bits that are held as one array: 5 MB at 10,000 examples."""


def path_split_half(
    candidates: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    by: Sequence[str] = ("population", "alignment", "repair"),
    margin: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Chord barrier in error whose highest point is chosen on half of the examples and measured on the other half.

    L(w) is the error, 1 - correct. The weight with the largest L(w) - ((1-w) L(0) + w L(1)), ends included, is chosen
    on one half and scored on the other, then the halves are swapped, and the two scores are averaged. On a flat path
    the expected value is 0, whereas the maximum over all examples (`path`) is above 0 by noise alone; on a real barrier
    it is slightly below the maximum, as the chosen weight is not always the highest point. Single pairs may be below 0.
    The halves are drawn from `seed` and the number of examples, the same for all pairs and weights. Mean over pairs in
    each pool, then Student's t over pools; a fraction, with `p` against zero.
    A pair with a row that is not `ok` or has no predictions, or without both ends and an interior point, is left out
    and counted in `warnings`. Raises AnalysisError for a missing column, duplicated rows, a group that mixes splits,
    protocols or scalings, or predictions whose bits are not as many as their examples.
    """
    require(candidates, ["candidate_id"])
    require(predictions, [*KEY, "n_examples", "correct"])
    rows = points(candidates, by)
    refuse_duplicates(predictions, KEY)
    bits = predictions[[*KEY, "n_examples", "correct"]]
    rows = rows.drop(columns=["n_examples", "correct"], errors="ignore").merge(bits, "left", on=KEY)
    if rows["correct"].isna().all():
        raise NothingToDrawError("predictions", "no rows of an `interpolation`")
    usable = rows["correct"].notna() & (rows["n_examples"] > 1)
    reason = rows["status"].astype(object).where(rows["status"] != "ok", np.where(usable, "", "no predictions"))
    rows = rows.assign(reason=reason)
    reasons = exclusion_warnings(rows)
    measured = rows[rows["path"].map(reasons) == ""]
    errors = _errors(measured, seed)
    level = 1 - errors.mean(axis=1).groupby(measured["path"]).mean()
    values = about(rows, [*by, "pool_id"]).assign(value=_scored(measured, errors), reason=reasons, level=level)
    estimand = "split-half chord barrier in error"
    return estimate_over_pools(values, by, estimand=estimand, null=0.0, margin=margin, noun="pair")


def _errors(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The share of wrong examples in each half, columns 0 and 1."""
    errors = pd.DataFrame(np.nan, rows.index, [0, 1])
    for n, group in rows.groupby("n_examples"):
        halves = _halves(int(n), seed)
        sizes = np.bitwise_count(halves).sum(axis=1)
        for start in range(0, len(group), BLOCK):
            block = group.iloc[start : start + BLOCK]
            bits = _bits(block["correct"], halves.shape[1])
            right = [np.bitwise_count(bits & half).sum(axis=1) for half in halves]
            errors.loc[block.index] = 1 - np.stack(right, axis=1) / sizes
    return errors


def _halves(n: int, seed: int) -> np.ndarray:
    """Two masks over n examples, packed as the predictions are: each example in one of them."""
    first = np.zeros(n, dtype=bool)
    first[np.random.default_rng([seed, n]).permutation(n)[: n // 2]] = True
    return np.packbits(np.stack([first, ~first]), axis=1)


def _bits(packed: pd.Series, width: int) -> np.ndarray:
    """Packed bits as one row of `width` bytes per candidate."""
    if (packed.map(len) != width).any():
        what = f"`correct` is not {width} bytes long for every candidate"
        raise AnalysisError("predictions", what, "it holds one bit per example of `n_examples`")
    return np.frombuffer(b"".join(packed), dtype=np.uint8).reshape(-1, width)


def _scored(rows: pd.DataFrame, errors: pd.DataFrame) -> pd.Series:
    """Per path the height above the chord on one half, at the highest point of the other: the mean of both ways."""
    gaps = [above_chord(rows, errors[half]) for half in (0, 1)]
    highest = [gap.groupby(rows["path"]).idxmax() for gap in gaps]
    scores = [gap.loc[at].set_axis(at.index) for gap, at in zip(gaps, highest[::-1], strict=True)]
    return (scores[0] + scores[1]) / 2
