"""Calibration of predicted probabilities, before and after temperature scaling."""

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
from analysis.rows.select import FIXED, UNIT, refuse_duplicates, refuse_mixture, require, select_split
from analysis.statistics._predictions import classes, log_probabilities, with_predictions

CITES = ("guo2017calibration", "brocker2007reliability")

CROSS_ENTROPY = "cross_entropy"
DEBIASED = "debiased CE²"
ECE = "ECE"
ECE_MASS = "ECE of equal mass"
TEMPERATURE = "temperature"
AFTER = " after temperature"
PLAIN = (CROSS_ENTROPY, DEBIASED, ECE, ECE_MASS)
TEMPERED = (*(name + AFTER for name in PLAIN), TEMPERATURE)
QUANTITIES = (*PLAIN, *TEMPERED)
NULLS: tuple[tuple[float | None, tuple[str, ...]], ...] = (
    (None, tuple(name + suffix for suffix in ("", AFTER) for name in (CROSS_ENTROPY, ECE, ECE_MASS))),
    (0.0, (DEBIASED, DEBIASED + AFTER)),
    (1.0, (TEMPERATURE,)),
)
COLUMNS = ("labels", "log_probabilities")
NO_PROBABILITIES = "no log-probabilities"
NO_TEMPERATURE = "no temperature between 0.01 and 100 is best"
NO_VALIDATION = "no log-probabilities of the validation split"
HINT = (
    "run with execution.probabilities=true under another sweep name, since existing rows are not evaluated again; "
    "splits: [test, validation] allows temperature scaling"
)


class Measure(NamedTuple):
    """One quantity of one candidate: NaN with a reason if it is missing; `consistency_p` belongs to the ECE."""

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
    """Calibration of predicted classes: one value per candidate, mean in each pool, then Student's t over pools.

    One row per group and `quantity`: `cross_entropy` in nats; `debiased CE²`, the squared calibration error minus its
    bias (15 bins of equal mass), around 0 for calibrated probabilities, tested against 0 with `margin`: use it to
    compare methods; `ECE`, a fraction, over 15 bins of equal width, and `ECE of equal mass` (the metrics `ece` and
    `ece_mass`). An ECE is always above 0, so its interval tests nothing; `consistency_p` of `ECE` does, by drawing
    labels from the confidences `resamples` times (several candidates: about twice the median p). Each also `after
    temperature`, and the `temperature` itself (tested against 1), fitted on the candidate's validation split. Averaging
    logits changes the temperature, so only a gain that remains after temperature scaling is information. Without rows
    of the validation split these quantities are missing, with a warning. A row without log-probabilities, or for which
    no temperature is best, is left out and counted in `warnings`. Raises NothingToDrawError without log-probabilities,
    AnalysisError for missing columns, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, by)
    predicted = _with_probabilities(rows, predictions)
    validation = _validation(predictions)
    # A temperature is not judged on the split that it was fitted on.
    predicted["tuned"] = predicted["candidate_id"].isin(set(validation)) & (predicted["split"] != "validation")
    measured = [_measures(row, validation, resamples, seed) for row in predicted.itertuples(index=False)]
    values = _long(predicted, measured, by)
    found = []
    for null, names in NULLS:
        selected = values[values["quantity"].isin(names)]
        null_margin = margin if null == 0 else None
        if len(selected):
            found.append(
                estimate_over_pools(selected, [*by, "quantity"], estimand="calibration", null=null, margin=null_margin)
            )
    return _arranged(pd.concat(found, ignore_index=True), values, by)


def _with_probabilities(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows with log-probabilities and labels, and the reason if they are missing."""
    require(rows, ["accuracy"])
    predicted = with_predictions(rows, predictions, COLUMNS)
    reason = predicted["reason"].mask(
        (predicted["reason"] == "") & predicted["log_probabilities"].isna(), NO_PROBABILITIES
    )
    if not (reason == "").any():
        raise NothingToDrawError("predictions", NO_PROBABILITIES, HINT)
    return predicted.assign(reason=reason)


def _validation(predictions: pd.DataFrame) -> Mapping[str, Any]:
    """The predictions on the validation split that have log-probabilities, by candidate."""
    kept = predictions[(predictions["split"] == "validation") & predictions["log_probabilities"].notna()]
    return {row.candidate_id: row for row in kept[["candidate_id", "n_examples", *COLUMNS]].itertuples(index=False)}


def _measures(row: Any, validation: Mapping[str, Any], resamples: int, seed: int) -> dict[str, Measure]:
    """All quantities of one candidate."""
    if row.reason:
        return dict.fromkeys(QUANTITIES, Measure(math.nan, row.reason))
    generator = np.random.default_rng([seed, *row.candidate_id.encode()])
    scores, labels = _outputs(row.log_probabilities, row.labels, int(row.n_predicted))
    found = _plain(scores, labels, generator, resamples)
    if not row.tuned:
        return found | dict.fromkeys(TEMPERED, Measure(math.nan, NO_VALIDATION))
    tune = validation[row.candidate_id]
    fitted = reliability.temperature(*_outputs(tune.log_probabilities, tune.labels, int(tune.n_examples)))
    if math.isnan(fitted):
        return found | dict.fromkeys(TEMPERED, Measure(math.nan, NO_TEMPERATURE))
    after = _plain(reliability.normalised(scores, fitted), labels, generator, resamples)
    return found | {name + AFTER: one for name, one in after.items()} | {TEMPERATURE: Measure(fitted)}


def _outputs(packed: bytes, labels: bytes, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalised log-probabilities (examples, classes) and the right classes (examples,)."""
    return reliability.normalised(log_probabilities(packed, examples)), classes(labels, examples)


def _plain(
    scores: np.ndarray, labels: np.ndarray, generator: np.random.Generator, resamples: int
) -> dict[str, Measure]:
    """The quantities of log-probabilities without a change of temperature."""
    mass = Reliability.of(scores, labels)
    width = Reliability.of(scores, labels, equal_width=True)
    return {
        CROSS_ENTROPY: Measure(reliability.cross_entropy(scores, labels)),
        DEBIASED: Measure(reliability.debiased_squared_error(mass)),
        ECE: Measure(reliability.ece(width), consistency_p=reliability.consistency_p(width, generator, resamples)),
        ECE_MASS: Measure(reliability.ece(mass)),
    }


def _long(predicted: pd.DataFrame, measured: Sequence[Mapping[str, Measure]], by: Sequence[str]) -> pd.DataFrame:
    """One line per row and quantity; no lines after temperature for groups without any fitted temperature."""
    group = predicted.groupby(list(by), dropna=False).ngroup()
    about = predicted[list(dict.fromkeys([*by, "pool_id"]))].assign(
        untuned=(~predicted["tuned"]).groupby(group).transform("all"), level=predicted["accuracy"]
    )
    frames = []
    for name in QUANTITIES:
        own = pd.DataFrame([one[name] for one in measured], columns=list(Measure._fields))
        lines = pd.concat([about, own], axis=1).assign(quantity=name)
        frames.append(lines[~lines["untuned"]] if name in TEMPERED else lines)
    values = pd.concat(frames, ignore_index=True)
    return values.assign(quantity=pd.Categorical(values["quantity"], QUANTITIES, ordered=True))


def _arranged(found: pd.DataFrame, values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The estimates in group order, with `consistency_p` and a warning if the validation split is missing."""
    key = [*by, "quantity"]
    groups = values.groupby(key, dropna=False, observed=True, sort=True)
    joint = groups["consistency_p"].agg(lambda each: reliability.jointly(each.dropna().to_numpy()))
    joined = pd.concat([joint, groups["untuned"].first()], axis=1).reset_index().merge(found, on=key)
    pairs = zip(joined["warnings"], joined.pop("untuned"), strict=True)
    warnings = [(*one, f"nothing{AFTER}: {NO_VALIDATION}") if untuned else one for one, untuned in pairs]
    return joined.assign(warnings=warnings).astype({"quantity": str})
