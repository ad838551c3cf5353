"""Predictions of candidates per example, unpacked from the bytes of the table `predictions`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.select import refuse_duplicates, require

EXAMPLES = ("candidate_id", "split")
UNKNOWN = "no predictions"


def with_predictions(rows: pd.DataFrame, predictions: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Join `columns` of the predictions to the rows, sorted by candidate; adds `n_predicted` (examples) and `reason`.

    `reason` is the status of a row that is not ok, `no predictions` if a row has none, else empty. Raises AnalysisError
    for missing columns or duplicated predictions, NothingToDrawError if no row has predictions.
    """
    require(rows, (*EXAMPLES, "status"))
    require(predictions, (*EXAMPLES, "n_examples", *columns))
    own = predictions[predictions["candidate_id"].isin(set(rows["candidate_id"]))]
    refuse_duplicates(own, EXAMPLES)
    if own.empty:
        raise NothingToDrawError("predictions", "no predictions of these candidates")
    joined = own[[*EXAMPLES, "n_examples", *columns]].rename(columns={"n_examples": "n_predicted"})
    found = rows.drop(columns=[name for name in columns if name in rows]).merge(joined, "left", on=list(EXAMPLES))
    reason = found["status"].astype(object).where(found["status"] != "ok", "")
    reason = reason.mask((reason == "") & found["n_predicted"].isna(), UNKNOWN)
    return found.assign(reason=reason).sort_values(list(EXAMPLES), ignore_index=True)


def classes(packed: bytes, examples: int) -> np.ndarray:
    """Classes, shape (examples,), stored as one or two bytes each. Raises AnalysisError for another length."""
    if len(packed) not in (examples, 2 * examples):
        raise AnalysisError("predictions", f"{len(packed)} bytes of classes for {examples} examples")
    return np.frombuffer(packed, "u1" if len(packed) == examples else "<u2")


def bits(packed: bytes, examples: int) -> np.ndarray:
    """1 where an example is classified correctly, shape (examples,). Raises AnalysisError for another length."""
    if len(packed) != -(-examples // 8):
        raise AnalysisError("predictions", f"{len(packed)} bytes of `correct` for {examples} examples")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=examples)


def log_probabilities(packed: bytes, examples: int) -> np.ndarray:
    """Log-probabilities, shape (examples, classes), float16. Raises AnalysisError for a length that does not divide."""
    if not packed or len(packed) % (2 * examples):
        raise AnalysisError("predictions", f"{len(packed)} bytes of `log_probabilities` for {examples} examples")
    return np.frombuffer(packed, "<f2").reshape(examples, -1)
