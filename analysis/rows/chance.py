"""Chance: the accuracy of a constant prediction, which is the share of the largest class in the split of a row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.rows.groups import group_ids
from sweep.storage.tables import plan_outline

CLASS_SHARES = "class shares"
N_CLASSES = "number of classes"
UNKNOWN = "unknown"
"""What `chance` is computed from: images per class in the split, or 1/classes in the folders of earlier versions."""

LEAST = 0.1
"""Smallest share of the way from chance to no error that a network must have come to be clearly above chance."""
LEAST_ERRORS = 3.0
"""Smallest distance from chance in standard errors of the accuracy of a guess on the split."""

_NAME = 3
_SETTINGS = 4
"""Positions of the data set's name and settings in a population of the plan's summary."""
_DATASETS = 1
"""Position of the records of data sets, by name and settings, in what the plan's summary calls inputs."""
_COUNTS = 6
"""Position of the images per class and split in the record of a data set."""


def with_chance(candidates: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The rows with `chance` (a fraction, NaN if unknown) and `chance_source`, from the plan's record of the data sets.

    It is the largest share of a class in the row's split; 1/classes where only the number of classes is recorded.
    """
    outline = plan_outline(folder)
    group, first = group_ids(candidates, ["pool_id", "split"])
    places = candidates[["pool_id", "split"]].astype(object).iloc[first]
    found = [_chance(outline, pool, split) for pool, split in places.itertuples(index=False, name=None)]
    values = np.array([value for value, _ in found], dtype=np.float64)
    sources = pd.Categorical([source for _, source in found], categories=[CLASS_SHARES, N_CLASSES, UNKNOWN])
    return candidates.assign(chance=values[group], chance_source=sources.take(group))


def clear_of_chance(chance: np.ndarray, examples: np.ndarray | None) -> np.ndarray:
    """The accuracy from which a network is clearly above chance, on a split of so many examples (NaN if unknown)."""
    least = chance + LEAST * (1 - chance)
    if examples is None:
        return least
    found: np.ndarray = np.fmax(least, chance + LEAST_ERRORS * np.sqrt(chance * (1 - chance) / examples))
    return found


def _chance(outline: dict[str, Any], pool_id: str, split: str) -> tuple[float, str]:
    """Chance in a split of the data set of a pool, and what it is computed from."""
    try:
        index = outline["pools"][pool_id]
        population = outline["populations"][index]
    except LookupError:
        return math.nan, UNKNOWN
    counts = _class_counts(outline, f"{population[_NAME]} {population[_SETTINGS]}", split)
    if counts:
        return max(counts) / sum(counts), CLASS_SHARES
    facts = outline.get("facts") or []
    return (1 / facts[index][0][0], N_CLASSES) if index < len(facts) else (math.nan, UNKNOWN)


def _class_counts(outline: dict[str, Any], dataset: str, split: str) -> list[int]:
    """Images per class in a split of a data set, by its name and settings; empty if they are not recorded."""
    inputs = outline.get("inputs") or []
    record = inputs[_DATASETS].get(dataset, []) if inputs else []
    counts = record[_COUNTS] if len(record) > _COUNTS else None
    return (counts or {}).get(split) or []
