"""Looks at claims: what each evaluation of a claim saw, recorded in run.json."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from analysis.core.errors import AnalysisError
from analysis.core.files import write_file
from analysis.inference.estimate import margin_p_values
from analysis.inference.finding import Finding, PoolValues
from analysis.rows.run import Run
from sweep.core.causes import describe
from sweep.core.file_lock import RUN_INFO_LOCK, file_lock

KEY = "looks"


@dataclass(frozen=True)
class Look:
    """One look at a claim: its pools in all and by population, the estimate, p values, and the verdict at that time.

    `p_within` and `p_beyond` test whether the effect lies within and beyond the margin; `p_adjusted` is p corrected for
    the family and for earlier looks. `rows` identifies the pools and their values.
    """

    time: str
    claim: str
    pools: int
    by_population: Mapping[str, int]
    estimate: float
    p: float | None
    p_within: float | None
    p_beyond: float | None
    p_adjusted: float | None
    verdict: str
    rows: str


def pools_by_population(values: PoolValues) -> dict[str, int]:
    """The number of pools of each population that the estimate uses, in order of names."""
    counts = values.used["population"].astype(str).value_counts().sort_index()
    return {str(name): int(n) for name, n in counts.items()}


def rows_id(values: PoolValues) -> str:
    """A short hash of the pools and their values to 10 digits, and of the margin; in any order of rows."""
    pairs = zip(values.frame["pool_id"].astype(str), values.frame["value"].astype(float), strict=True)
    content = [sorted((pool, f"{value:.10g}") for pool, value in pairs), values.question.margin]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def look_at(name: str, finding: Finding, verdict: str, time: str) -> Look:
    """The look that an evaluation of a claim is."""
    estimate = finding.estimate
    counts = pools_by_population(finding.values)
    within, beyond = margin_p_values(estimate, finding.values.question.null)
    return Look(
        time=time,
        claim=name,
        pools=sum(counts.values()),
        by_population=counts,
        estimate=estimate.estimate,
        p=_known(estimate.p),
        p_within=_known(within),
        p_beyond=_known(beyond),
        p_adjusted=_known(estimate.p_adjusted),
        verdict=verdict,
        rows=rows_id(finding.values),
    )


def _known(p: float | None) -> float | None:
    """A p value for JSON; None for NaN."""
    return None if p is None or math.isnan(p) else float(p)


def recorded_looks(run: Run) -> list[Look]:
    """The looks in run.json in their order; entries of another form are left out."""
    entries = run.info.get(KEY)
    found = [_parse(one) for one in entries] if isinstance(entries, list) else []
    return [one for one in found if one is not None]


def _parse(entry: Any) -> Look | None:
    """One entry; None if it has another form."""
    try:
        look = Look(**{name: entry[name] for name in Look.__dataclass_fields__})
        numbers = (look.pools, look.estimate, *look.by_population.values())
        p_values = [p for p in (look.p, look.p_within, look.p_beyond) if p is not None]
        return look if all(np.isfinite((*numbers, *p_values))) and all(0 <= p <= 1 for p in p_values) else None
    except (TypeError, KeyError, AttributeError):
        return None


def earlier_looks(looks: Sequence[Look], name: str, values: PoolValues) -> tuple[Look, ...]:
    """The looks at a claim before the present one, which the last of them may be: it has the same pools and rows."""
    mine = [one for one in looks if one.claim == name]
    is_present = bool(mine) and mine[-1].rows == rows_id(values)
    return tuple(mine[:-1] if is_present else mine)


def now() -> str:
    """The present time in UTC, as in the other entries of run.json."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def record(run: Run, looks: Sequence[Look]) -> str:
    """Add looks to run.json, but for those with the pools and rows of the last look at their claim.

    Returns a warning if the folder cannot be written or has no run.json, or if there are several, else an empty text.
    """
    if run.several:
        return "looks at several runs together are not recorded: each counts as the first"
    path = run.folder / "run.json"
    if not path.is_file():
        return "looks at claims are not recorded: the folder has no run.json"
    try:
        with file_lock(run.folder / RUN_INFO_LOCK):
            info = json.loads(path.read_text(encoding="utf-8"))
            known = recorded_looks(Run(run.folder, info, ""))
            last = {one.claim: one.rows for one in known}
            new = [asdict(one) for one in looks if last.get(one.claim) != one.rows]
            if new:
                entries = info[KEY] if isinstance(info.get(KEY), list) else []
                write_file(path, json.dumps({**info, KEY: [*entries, *new]}, indent=1))
    except (OSError, ValueError, RecursionError, AnalysisError) as error:
        return f"looks at claims are not recorded, so later looks count as the first: {describe(error)}"
    return ""
