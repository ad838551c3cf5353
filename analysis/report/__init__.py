"""The report of a run: page, tables, claims, citations, comparison of runs."""
