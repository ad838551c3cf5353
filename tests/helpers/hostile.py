"""How often hostile inputs are drawn, which `HOSTILE` multiplies, and what a call makes of one of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

MORE = int(os.environ.get("HOSTILE", "1"))
LAX = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def often(count: int) -> Callable[[Any], Any]:
    return settings(max_examples=count * MORE, deadline=None, suppress_health_check=LAX)


def outcome(call: Callable[[], Any], kind: type[Exception]) -> tuple[Any, Any]:
    """What a call gives, or the error of that kind; any other error is a failure."""
    try:
        return call(), None
    except kind as error:
        return None, error
