"""Estimates, intervals, p-values and verdicts from arrays of numbers; independent of run folders."""
