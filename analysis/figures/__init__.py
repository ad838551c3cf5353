"""Rows to pictures: one file, one function of that name, whose docstring is the caption in the report.

Its parameters name the tables that it needs (`candidates`, `curves`, `members`); it gives a `analysis.style.Plot`.
"""

from __future__ import annotations
