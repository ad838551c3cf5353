"""A small sweep's values, its plan, and the ids in it."""

from __future__ import annotations

from typing import Any

from sweep.config.document import Document
from sweep.config.loader import check
from sweep.plan.planner import Plan, make_plan

VALUES: dict[str, Any] = {
    "name": "t",
    "dataset": {"digits": {"size": 8}},
    "populations": [
        {"architecture": {"mlp": {"hidden": [8]}}, "pools": 2, "members": 4},
        {"architecture": "linear", "start": "scratch", "pools": 1, "members": 5},
    ],
    "subsets": {"sizes": [2, 3], "per_size": 3, "pairs": 2, "prefixes": [2, 4]},
    "methods": ["uniform_soup", "logit_average", {"interpolation": {"weight": [0, 0.5]}}],
    "scalings": ["none", {"magnify": {"factor": 2}}],
}


def planned(values: dict[str, Any] = VALUES, **more: Any) -> Plan:
    return make_plan(check(Document("f.yaml", values | more)))


def with_population(**more: Any) -> dict[str, Any]:
    """The values with other settings of the first population."""
    first, *rest = VALUES["populations"]
    return VALUES | {"populations": [first | more, *rest]}


def ids(plan: Plan) -> list[str]:
    return [candidate.id for candidate in plan.candidates]


def members(plan: Plan) -> set[str]:
    return {member.id for member in [*plan.starts, *plan.members]}
