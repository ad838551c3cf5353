"""Small plans, made from populations as they are written."""

from __future__ import annotations

from typing import Any

from sweep.config import check
from sweep.document import Document
from sweep.plan import Plan, make_plan
from sweep.spec import Sweep


def swept(*populations: dict[str, Any], **more: Any) -> Sweep:
    values = {"name": "t", "populations": list(populations), "subsets": {"pairs": "all"}}
    return check(Document("f.yaml", values | more))


def planned(*populations: dict[str, Any], **more: Any) -> Plan:
    return make_plan(swept(*populations, **more))


def linear(**more: Any) -> dict[str, Any]:
    return {"architecture": "linear", "start": "scratch", **more}
