"""Whether probabilities keep what they promise, before and after a temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference import reliability
from analysis.inference.reliability import Reliability
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.select import FIXED, UNIT, refuse_duplicates, refuse_mixture, select_split
from analysis.statistics._predictions import classes, log_probabilities, with_predictions

CITES = ("guo2017calibration", "brocker2007reliability")

CROSS_ENTROPY, DEBIASED, ECE, TEMPERATURE = "cross_entropy", "debiased CE²", "ECE", "temperature"
AFTER = " after temperature"
PLAIN = (CROSS_ENTROPY, DEBIASED, ECE)
TEMPERED = (*(name + AFTER for name in PLAIN), TEMPERATURE)
QUANTITIES = (*PLAIN, *TEMPERED)
NULLS: tuple[tuple[float | None, tuple[str, ...]], ...] = (
    (None, (CROSS_ENTROPY, ECE, CROSS_ENTROPY + AFTER, ECE + AFTER)),
    (0.0, (DEBIASED, DEBIASED + AFTER)),
    (1.0, (TEMPERATURE,)),
)
COLUMNS = ("labels", "log_probabilities")
UNSAID, UNFITTED = "no log-probabilities", "no temperature between 0.01 and 100 is best"
UNTUNED = "no log-probabilities of the validation split"
HINT = (
    "run with execution.probabilities=true; rows that are there stay as they are, so give the sweep another name, and "
    "with splits: [test, validation] temperatures can be fitted"
)


class Measure(NamedTuple):
    """One quantity of one candidate: NaN with a reason where there is none, and the p of consistency of an ECE."""

    value: float
    reason: str = ""
    consistency_p: float = math.nan


def calibration(
    candidates: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    by: Sequence[str] = ("population", "space", "label", "n_members"),
    margin: float | None = None,
    resamples: int = 199,
    seed: int = 0,
) -> pd.DataFrame:
    """Calibration of predicted classes: per candidate, mean in each pool, then t over pools, per group and `quantity`.

    `cross_entropy` (nats); `debiased CE²`, the squared calibration error less what chance adds (15 bins of equal mass),
    around 0 for calibrated probabilities: the one to compare by, with p against 0 and, where given, `margin`; `ECE`
    (a fraction), which is above 0 whatever the model, so its interval tests nothing: `consistency_p` does, by drawing
    labels from the confidences `resamples` times (of several candidates, about twice their median p). Each also `after
    temperature`, and the `temperature` itself (p against 1): fitted on the candidate's rows of the validation split.
    Averaging logits changes the temperature, so only a gain that remains after it is information. Without rows of the
    validation split those quantities are missing and `warnings` say so. A row without log-probabilities, or without a
    best temperature, is left out and counted there.
    Raises NothingToDrawError without log-probabilities, AnalysisError for missing columns, duplicated rows, or a group
    that mixes splits, protocols or scalings.
    """
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, by)
    said, validation = _said(rows, predictions), _validation(predictions)
    # What a temperature was fitted on does not tell how well it does.
    said["tuned"] = said["candidate_id"].isin(set(validation)) & (said["split"] != "validation")
    measured = [_measures(row, validation, resamples, seed) for row in said.itertuples(index=False)]
    values = _long(said, measured, by)
    found = []
    for null, names in NULLS:
        own, held = values[values["quantity"].isin(names)], margin if null == 0 else None
        if len(own):
            found.append(estimate_over_pools(own, [*by, "quantity"], estimand="calibration", null=null, margin=held))
    return _arranged(pd.concat(found, ignore_index=True), values, by)


def _said(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows with their log-probabilities and right classes, and the reason where they have none."""
    said = with_predictions(rows, predictions, COLUMNS)
    reason = said["reason"].mask((said["reason"] == "") & said["log_probabilities"].isna(), UNSAID)
    if not (reason == "").any():
        raise NothingToDrawError("predictions", UNSAID, HINT)
    return said.assign(reason=reason)


def _validation(predictions: pd.DataFrame) -> Mapping[str, Any]:
    """The predictions on the validation split that have log-probabilities, by candidate."""
    kept = predictions[(predictions["split"] == "validation") & predictions["log_probabilities"].notna()]
    return {row.candidate_id: row for row in kept[["candidate_id", "n_examples", *COLUMNS]].itertuples(index=False)}


def _measures(row: Any, validation: Mapping[str, Any], resamples: int, seed: int) -> dict[str, Measure]:
    """All quantities of one candidate."""
    if row.reason:
        return dict.fromkeys(QUANTITIES, Measure(math.nan, row.reason))
    generator = np.random.default_rng([seed, *row.candidate_id.encode()])
    scores, labels = _outputs(row.log_probabilities, row.labels, int(row.n_said))
    found = _plain(scores, labels, generator, resamples)
    if not row.tuned:
        return found | dict.fromkeys(TEMPERED, Measure(math.nan, UNTUNED))
    tune = validation[row.candidate_id]
    fitted = reliability.temperature(*_outputs(tune.log_probabilities, tune.labels, int(tune.n_examples)))
    if math.isnan(fitted):
        return found | dict.fromkeys(TEMPERED, Measure(math.nan, UNFITTED))
    after = _plain(reliability.normalised(scores, fitted), labels, generator, resamples)
    return found | {name + AFTER: one for name, one in after.items()} | {TEMPERATURE: Measure(fitted)}


def _outputs(packed: bytes, labels: bytes, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalised log-probabilities (examples, classes) and the right classes (examples,)."""
    return reliability.normalised(log_probabilities(packed, examples)), classes(labels, examples)


def _plain(
    scores: np.ndarray, labels: np.ndarray, generator: np.random.Generator, resamples: int
) -> dict[str, Measure]:
    """The quantities of some log-probabilities as they are."""
    found = Reliability.of(scores, labels)
    return {
        CROSS_ENTROPY: Measure(reliability.cross_entropy(scores, labels)),
        DEBIASED: Measure(reliability.debiased_squared_error(found)),
        ECE: Measure(reliability.ece(found), consistency_p=reliability.consistency_p(found, generator, resamples)),
    }


def _long(said: pd.DataFrame, measured: Sequence[Mapping[str, Measure]], by: Sequence[str]) -> pd.DataFrame:
    """One line per row and quantity; groups in which no row could be tuned have no line of what comes after it."""
    group = said.groupby(list(by), dropna=False).ngroup()
    about = said[list(dict.fromkeys([*by, "pool_id"]))].assign(untuned=(~said["tuned"]).groupby(group).transform("all"))
    frames = []
    for name in QUANTITIES:
        own = pd.DataFrame([one[name] for one in measured], columns=list(Measure._fields))
        lines = pd.concat([about, own], axis=1).assign(quantity=name)
        frames.append(lines[~lines["untuned"]] if name in TEMPERED else lines)
    values = pd.concat(frames, ignore_index=True)
    return values.assign(quantity=pd.Categorical(values["quantity"], QUANTITIES, ordered=True))


def _arranged(found: pd.DataFrame, values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The estimates in the order of their groups, with the p of consistency, and what could not be tuned told."""
    key = [*by, "quantity"]
    groups = values.groupby(key, dropna=False, observed=True, sort=True)
    joint = groups["consistency_p"].agg(lambda each: reliability.jointly(each.dropna().to_numpy()))
    joined = pd.concat([joint, groups["untuned"].first()], axis=1).reset_index().merge(found, on=key)
    told = zip(joined["warnings"], joined.pop("untuned"), strict=True)
    warnings = [(*one, f"nothing{AFTER}: {UNTUNED}") if untuned else one for one, untuned in told]
    return joined.assign(warnings=warnings).astype({"quantity": str})
