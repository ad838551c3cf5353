"""Another search under the name of a known one."""

from __future__ import annotations

from typing import Any


def greedy_variant(method: dict[str, Any]) -> dict[str, Any]:
    """`greedy_soup` is the published script's, `greedy_halving`; other methods are as they are.

    A method as a configuration writes it, {name: settings}, to another one (arXiv 2411.09263).
    """
    return {"greedy_halving": {}} if "greedy_soup" in method else method
