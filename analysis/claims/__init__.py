"""Claims: one file per claim, with a function of the same name from tables and the margin to the deciding estimate.

The first paragraph of its docstring is the question, the second the quantity and the test.
"""

from __future__ import annotations
