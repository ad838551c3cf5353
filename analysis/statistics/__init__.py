"""Rows to estimates: one file, one function of that name, from a frame with the columns of the tables to a frame.

The first argument is the frame of rows; every row of the answer carries the fields of `analysis.estimate.Estimate`.
"""

from __future__ import annotations
