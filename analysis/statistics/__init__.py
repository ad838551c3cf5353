"""Statistics: one file per statistic, with a function of the same name from data frames of rows to one of estimates.

Every row of the result has the fields of `analysis.inference.estimate.Estimate`.
"""

from __future__ import annotations
