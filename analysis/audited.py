"""The rows as they are under one protocol, whether its switches act on a row or not."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

CORRECT = "correct"
_KEY = ("population", "pool", "member_indices", "method", "settings", "alignment", "alignment_settings", "scaling")
_MORE = ("scaling_settings", "repair", "repair_settings", "split")


def protocols(candidates: pd.DataFrame) -> list[str]:
    """`correct`, then the others: single switches in the order of their names, and switches together."""
    found = set(candidates["protocol"].dropna()) - {CORRECT}
    return [CORRECT, *sorted(found, key=lambda name: (name.count("+"), name))]


def under(candidates: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of every population under a protocol: its own, and the correct ones where none of its switches acts.

    A population that the protocol trains otherwise is told by the name of the correct one, and has no other rows.
    """
    correct = candidates[candidates["protocol"] == CORRECT]
    if protocol == CORRECT:
        return correct
    own = candidates[candidates["protocol"] == protocol]
    known = set(correct["population"])
    written = own["population"]
    own = own.assign(population=[correct_name(name, known) for name in written])
    retrained = set(own.loc[own["population"] != written, "population"])
    rest = correct[~_keys(correct).isin(set(_keys(own))) & ~correct["population"].isin(retrained)]
    return pd.concat([own, rest]).assign(protocol=protocol)


def correct_name(name: str, known: Iterable[str]) -> str:
    """The population beside which one is trained otherwise: `cnn (shared_transform)` is beside `cnn`."""
    if name in known:
        return name
    return max((each for each in known if name.startswith(f"{each} (")), key=len, default=name)


def _keys(rows: pd.DataFrame) -> pd.Series:
    """What tells candidates of one protocol apart; ids of pools do not, where members are trained otherwise."""
    return rows[[*_KEY, *_MORE]].astype(str).agg("|".join, axis=1)
