"""Small plans, made from populations as they are written."""

from __future__ import annotations

from typing import Any

from sweep.config.document import Document
from sweep.config.loader import check
from sweep.config.spec import Sweep
from sweep.plan.planner import Plan, make_plan


def swept(*populations: dict[str, Any], **more: Any) -> Sweep:
    values = {"name": "t", "populations": list(populations), "subsets": {"pairs": "all"}}
    return check(Document("f.yaml", values | more))


def planned(*populations: dict[str, Any], **more: Any) -> Plan:
    return make_plan(swept(*populations, **more))


def linear(**more: Any) -> dict[str, Any]:
    return {"architecture": "linear", "start": "scratch", **more}
