"""Components of the variance by restricted likelihood; by statsmodels, `pip install 'merge-sweep[likelihood]'`.

Where pools are few or subsets unbalanced it uses the data better than moments; it cannot come out below zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.core.errors import AnalysisError

if TYPE_CHECKING:
    from statsmodels.regression.mixed_linear_model import MixedLM

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """One pool: `values` (rows,), `fixed` (rows, effects), and a (rows, levels) matrix for each component inside it."""

    values: Array
    fixed: Array
    inside: tuple[Array, ...] = ()


def restricted(pools: Sequence[Layout]) -> Array:
    """(2 + components inside,): variance between pools, of each component inside them, and of what is left.

    NaN throughout where no maximum is found, and between pools where there is one. Raises AnalysisError without
    statsmodels.
    """
    model = _model(pools)
    with warnings.catch_warnings():
        # It warns of a component at zero, which the estimate shows by itself.
        warnings.simplefilter("ignore")
        try:
            found = model.fit(reml=True)
        except np.linalg.LinAlgError:
            found = None
    if found is None or not found.converged:
        return np.full(2 + len(pools[0].inside), np.nan)
    between = float(np.asarray(found.cov_re)[0, 0]) if len(pools) > 1 else np.nan
    return np.array([between, *found.vcomp, found.scale])


def _model(pools: Sequence[Layout]) -> MixedLM:
    """Pools as groups with an intercept of their own, where there are several."""
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec
    except ImportError as error:
        hint = "pip install 'merge-sweep[likelihood]', or ask for estimator=moments"
        raise AnalysisError("estimator", "restricted likelihood needs statsmodels", hint) from error
    values = np.concatenate([pool.values for pool in pools])
    fixed = np.concatenate([pool.fixed for pool in pools])
    fixed = fixed[:, fixed.any(axis=0)]  # a size that no row has is no effect
    parts = range(len(pools[0].inside))
    names = [[[str(level) for level in range(pool.inside[k].shape[1])] for pool in pools] for k in parts]
    inside = VCSpec([str(k) for k in parts], names, [[pool.inside[k] for pool in pools] for k in parts])
    return MixedLM(
        values,
        fixed,
        np.repeat(np.arange(len(pools)), [len(pool.values) for pool in pools]),
        # Given by hand: left out, statsmodels drops the pools' own intercept as soon as there are other components.
        exog_re=np.ones((len(values), 1)) if len(pools) > 1 else None,
        exog_vc=inside if len(parts) else None,
    )
