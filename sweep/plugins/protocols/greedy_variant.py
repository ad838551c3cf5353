"""The published script's greedy search in the place of the greedy soup."""

from __future__ import annotations

from typing import Any


def greedy_variant(method: dict[str, Any]) -> dict[str, Any]:
    """`greedy_soup` and `greedy_ensemble` search as in the published script, which scales members only after selection.

    Replaces `greedy_soup` by `greedy_entering` (without a scaling the same as `greedy_halving`) and `greedy_ensemble`
    by `greedy_ensemble_unscaled`, as in the script of arXiv 2411.09263; other methods stay. Takes and returns a method
    as in a configuration, {name: settings}.
    """
    if "greedy_ensemble" in method:
        return {"greedy_ensemble_unscaled": method["greedy_ensemble"]}
    return {"greedy_entering": {}} if "greedy_soup" in method else method
