"""The rows as they are under one protocol, whether its switches act on a row or not."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

CORRECT = "correct"
PREFIXES = "nested_prefixes"
"""The published choice of subsets: the first N members of each pool, and no others. A filter of rows, so no switch."""

_FEW = 2
"""Switches together that a line has room to name."""

_KEY = ("population", "pool", "member_indices", "method", "settings", "alignment", "alignment_settings", "scaling")
_MORE = ("scaling_settings", "repair", "repair_settings", "split")


def protocols(candidates: pd.DataFrame) -> list[str]:
    """`correct`, then the others: single switches in the order of their names, and switches together.

    Where some merges are of nested prefixes, those alone count as one switch more, also beside the most together.
    """
    found = set(candidates["protocol"].dropna()) - {CORRECT}
    if _has_prefixes(candidates[candidates["protocol"] == CORRECT]):
        most = max(sorted(found), key=lambda name: name.count("+"), default="")
        found |= {PREFIXES, *([f"{most}+{PREFIXES}"] if "+" in most else [])}
    return [CORRECT, *sorted(found, key=lambda name: (name.count("+"), name))]


def rows_under(candidates: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of every population under a protocol: its own, and the correct ones where none of its switches acts.

    A population that the protocol trains otherwise is told by the name of the correct one, and has no other rows.
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
    """The protocol as a line has room for it: its name, or how many switches are together."""
    count = protocol.count("+") + 1
    return protocol if count <= _FEW else f"{count} together"


def correct_name(name: str, known: Iterable[str]) -> str:
    """The population beside which one is trained otherwise: `cnn (shared_transform)` is beside `cnn`."""
    if name in known:
        return name
    return max((each for each in known if name.startswith(f"{each} (")), key=len, default=name)


def _nested(rows: pd.DataFrame) -> pd.Series:
    """Which rows are of the first members of their pool; single members all are, for merges are held against them."""
    last = pd.Series([members[-1] + 1 for members in rows["member_indices"]], rows.index, dtype=int)
    return (rows["n_members"] == 1) | (rows["n_members"] == last)


def _has_prefixes(rows: pd.DataFrame) -> bool:
    """Whether every pool has a prefix of every size that it merges, and some other subset is there, too."""
    merges = rows[rows["n_members"] > 1]
    if merges.empty:
        return False
    nested = _nested(merges)
    sizes = nested.groupby([merges["pool_id"], merges["n_members"]], observed=True).any()
    return bool(sizes.all() and not nested.all())


def _keys(rows: pd.DataFrame) -> pd.Series:
    """What tells candidates of one protocol apart; ids of pools do not, where members are trained otherwise."""
    return rows[[*_KEY, *_MORE]].astype(str).agg("|".join, axis=1)
