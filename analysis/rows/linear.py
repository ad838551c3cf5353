"""Networks of one linear layer, in which averages of weights, features and logits are one function."""

from __future__ import annotations

import pandas as pd

from analysis.core.errors import NothingToDrawError

ALIKE = frozenset({"uniform_soup", "logit_average", "feature_average (head=average)"})
"""Labels of averages that are equal if outputs are linear in the weights, whatever the members are multiplied by."""

LINEAR = "linear"
"""The kind of such a network, and the project's own one, for rows of earlier versions, which know no such kind."""


def of_different_functions(candidates: pd.DataFrame, a: str, b: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows without the populations in which `a` and `b` are one function, and a warning that names these.

    Raises NothingToDrawError if no row is left.
    """
    if not {a, b} <= ALIKE or a == b:
        return candidates, ()
    columns = [name for name in ("architecture_kind", "architecture") if name in candidates]
    linear = (candidates[columns].astype(object) == LINEAR).any(axis=1).to_numpy(bool)
    if not linear.any():
        return candidates, ()
    names = ", ".join(f"`{name}`" for name in sorted(set(candidates.loc[linear, "population"].astype(object))))
    text = f"{names} left out: in one linear layer, `{a}` and `{b}` are the same function"
    if linear.all():
        raise NothingToDrawError("candidates", text)
    return candidates[~linear], (text,)
