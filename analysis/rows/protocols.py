"""Rows under one protocol, including rows that its switches do not affect."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

CORRECT = "correct"
PREFIXES = "nested_prefixes"
"""The published choice of subsets: the first N members of each pool only. A filter of rows, not a switch."""

_FEW = 2
"""Largest number of combined switches that are named individually."""

_KEY = ("population", "pool", "member_indices", "method", "settings", "alignment", "alignment_settings", "scaling")
_MORE = ("scaling_settings", "repair", "repair_settings", "split")


def protocols(candidates: pd.DataFrame) -> list[str]:
    """`correct`, then single switches in alphabetical order, then combined switches.

    If some merges are of nested prefixes, `nested_prefixes` is listed too, also with the largest combination.
    """
    found = set(candidates["protocol"].dropna()) - {CORRECT}
    if _has_prefixes(candidates[candidates["protocol"] == CORRECT]):
        most = max(sorted(found), key=lambda name: name.count("+"), default="")
        found |= {PREFIXES, *([f"{most}+{PREFIXES}"] if "+" in most else [])}
    return [CORRECT, *sorted(found, key=lambda name: (name.count("+"), name))]


def rows_under(candidates: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of every population under a protocol: its own, and the correct ones that its switches do not affect.

    A population that the protocol retrains has the name of the correct one, and no other rows.
    """
    if protocol == PREFIXES or protocol.endswith(f"+{PREFIXES}"):
        rows = rows_under(candidates, protocol.removesuffix(PREFIXES).removesuffix("+") or CORRECT)
        return rows[_nested(rows)].assign(protocol=protocol)
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


def short(protocol: str) -> str:
    """Short name of the protocol: its name, or the number of combined switches."""
    count = protocol.count("+") + 1
    return protocol if count <= _FEW else f"{count} together"


def correct_name(name: str, known: Iterable[str]) -> str:
    """The correct population of a retrained one: `cnn` for `cnn (shared_transform)`."""
    if name in known:
        return name
    return max((each for each in known if name.startswith(f"{each} (")), key=len, default=name)


def _nested(rows: pd.DataFrame) -> pd.Series:
    """Mask of merges of the first members of their pool, and of all single members, the baselines of merges."""
    last = pd.Series([members[-1] + 1 for members in rows["member_indices"]], rows.index, dtype=int)
    return (rows["n_members"] == 1) | (rows["n_members"] == last)


def _has_prefixes(rows: pd.DataFrame) -> bool:
    """Whether every pool has a prefix of each of its sizes, and there are other subsets as well."""
    merges = rows[rows["n_members"] > 1]
    if merges.empty:
        return False
    nested = _nested(merges)
    sizes = nested.groupby([merges["pool_id"], merges["n_members"]], observed=True).any()
    return bool(sizes.all() and not nested.all())


def _keys(rows: pd.DataFrame) -> pd.Series:
    """Key of a candidate within a protocol; pool ids are left out, since they differ for retrained members."""
    return rows[[*_KEY, *_MORE]].astype(str).agg("|".join, axis=1)
