"""Rows of a path between two members."""

from __future__ import annotations

import json
from typing import Any

from tests.helpers import rows


def line(losses: dict[float, float], pool: int = 0, **values: Any) -> list[dict[str, Any]]:
    members = values.pop("members", (0, 1))
    return [
        rows.candidate(pool, members, "interpolation", settings=json.dumps({"weight": w}), cross_entropy=loss, **values)
        for w, loss in losses.items()
    ]
