"""The gain of a merge by its number of members, pool by pool, at the same two sizes in all pools of a population."""

from __future__ import annotations

import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.pairing import group_warnings, pair_candidates, paired_differences
from analysis.rows.select import MEAN_MEMBER, UNIT


def size_pairs(candidates: pd.DataFrame, label: str, *, neighbours: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Mean gains over the mean member at two sizes per pool: columns population, pool_id, small, large, difference.

    The sizes of a population are its smallest and its largest, or, with `neighbours`, the next smaller one than the
    largest. Pools that lack one of them are left out with a warning, as are populations with one size, or of which no
    pool has both. Raises NothingToDrawError if no pool is left.
    """
    rows = pair_candidates(candidates, label, MEAN_MEMBER, "accuracy", ["n_members"])
    pairs = paired_differences(rows, label, MEAN_MEMBER, "accuracy", ["n_members"]).assign(group=0)
    used = pairs[(pairs["reason"] == "") & (pairs["n_members"] > 1)]
    gains = used.groupby([*UNIT, "n_members"], sort=True, observed=True)["value"].mean().reset_index()
    warnings = group_warnings(pairs, 1)[0]
    found = []
    for population, own in gains.groupby("population", sort=True, observed=True):
        sizes = sorted(set(own["n_members"]))
        if len(sizes) < 2:
            warnings.append(f"`{population}` is left out: it has one size")
            continue
        small = sizes[-2] if neighbours else sizes[0]
        both, lacking = _at(own, small, sizes[-1])
        found.append(both)
        few = f"{lacking} of {lacking + len(both)} pools of `{population}` lack N = {small} or {sizes[-1]}: left out"
        warnings += [few] if lacking else []
    if not found or not sum(map(len, found)):
        raise NothingToDrawError("candidates", f"no pool has two sizes of `{label}`")
    return pd.concat(found, ignore_index=True), tuple(warnings)


def _at(gains: pd.DataFrame, small: int, large: int) -> tuple[pd.DataFrame, int]:
    """The pools with both sizes, and the number of others."""
    wide = gains.pivot(index=list(UNIT), columns="n_members", values="value")
    both = wide[[small, large]].dropna()
    found = both.reset_index()[list(UNIT)].assign(
        small=small, large=large, difference=(both[large] - both[small]).to_numpy()
    )
    return found, len(wide) - len(both)
