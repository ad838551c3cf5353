"""Populations trained on shuffled labels: a control for what weights look like, not networks whose accuracy counts."""

from __future__ import annotations

import json

import pandas as pd


def control_populations(members: pd.DataFrame) -> list[str]:
    """The names of the populations whose members were trained on shuffled labels, in order."""
    known = members[members["training"].notna()].drop_duplicates(["population", "training"])
    texts = zip(known["population"].astype(object), known["training"].astype(object), strict=True)
    return sorted({str(name) for name, text in texts if json.loads(text).get("shuffle_labels")})


def without_controls(candidates: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """The rows of candidates of the other populations."""
    controls = control_populations(members)
    return candidates[~candidates["population"].isin(controls)] if controls else candidates


def controls_note(members: pd.DataFrame) -> list[str]:
    """What readers of claims must know about controls, as a list of at most one text."""
    controls = control_populations(members)
    if not controls:
        return []
    names = ", ".join(f"`{name}`" for name in controls)
    return [f"{names}: trained on shuffled labels, a control that no claim on accuracy counts"]
