"""Claims: one file, one function of that name, from tables and the margin to the estimate that decides.

The first paragraph of the documentation is the question, the second the quantity and the test.
"""

from __future__ import annotations
