"""Another search under the name of a known one."""

from __future__ import annotations

from typing import Any


def greedy_variant(method: dict[str, Any]) -> dict[str, Any]:
    """`greedy_soup` is the published script's, whose start is unscaled, and `greedy_ensemble` chooses unscaled members.

    A method as a configuration writes it, {name: settings}, to another one (arXiv 2411.09263): `greedy_entering`, which
    is `greedy_halving` where nothing is scaled. Other methods are as they are.
    """
    if "greedy_ensemble" in method:
        return {"greedy_ensemble_unscaled": method["greedy_ensemble"]}
    return {"greedy_entering": {}} if "greedy_soup" in method else method
