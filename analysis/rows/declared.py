"""What was declared before the run for the claims: the family, the planned pools, and later changes of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.inference.sequential import KEPT
from analysis.rows.run import Run

DECLARED = ("margin", "margins", "pools_planned", "claims")


@dataclass(frozen=True)
class PoolPlan:
    """The planned pools: `stated` per population, else `pools`, those of the first run, by population.

    `kept` is the share of the error that is kept for looks beyond the plan.
    """

    stated: int | None = None
    pools: Mapping[str, int] = field(default_factory=dict)
    kept: float = 0.0

    def share(self, counts: Mapping[str, int], first: Mapping[str, int]) -> float:
        """The information of pools by population as a share of the planned: of the inverse variance of their mean.

        A population counts as its pools less one, the degrees of freedom of its spread: with few pools, t statistics of
        successive looks are less alike than normal ones, and looks one by one would find 5.6% instead of 5.4% at a
        level of 5%. Where nothing was planned for a population, the pools of the first look are the plan.
        """
        planned = {name: self.stated or self.pools.get(name) or first.get(name, n) for name, n in counts.items()}
        return _inverse(planned) / _inverse(counts)


def _inverse(pools: Mapping[str, int]) -> float:
    """Inverse information: the sum over populations of 1 / (pools - 1); one pool has half a degree of freedom."""
    return sum(1 / max(n - 1, 0.5) for n in pools.values())


def pool_plan(run: Run) -> PoolPlan:
    """The plan of the first call that recorded one; a part of the error is kept if none was stated."""
    stated = _first(run, "pools_planned")
    if isinstance(stated, int):
        return PoolPlan(stated)
    pools = _first(run, "pools")
    known = {name: n for name, n in pools.items() if isinstance(n, int) and n > 0} if isinstance(pools, dict) else {}
    return PoolPlan(None, known, KEPT)


def declared_claims(run: Run) -> tuple[str, ...] | None:
    """The claims that the first call declared; None if it declared no family."""
    names = _first(run, "claims")
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def later_changes(run: Run) -> list[str]:
    """Declarations of later calls that differ from the first, which stays in force, as texts without a full stop."""
    found = []
    for name in DECLARED:
        calls = [(one[name], str(one.get("started_at", "")) or "an unknown time") for one in _recorded(run, name)]
        last = calls[0][0] if calls else None
        for value, time in calls[1:]:
            if value != last:
                force = f"the first, {_words(calls[0][0])}, stays in force"
                found.append(f"`{name}` was changed to {_words(value)} at {time}; {force}")
            last = value
    return found


def _recorded(run: Run, name: str) -> list[dict[str, Any]]:
    """The calls that recorded a declaration, in order."""
    # `margin` is that of accuracy, which is one of `margins`, too, where these are recorded.
    return [one for one in run.invocations if name in one and not (name == "margin" and "margins" in one)]


def _first(run: Run, name: str) -> Any:
    """The value of the first call that recorded it; None if none did."""
    return next((one[name] for one in _recorded(run, name)), None)


def _words(value: Any) -> str:
    """A declared value as text."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
