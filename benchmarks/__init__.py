"""Measurements of speed and memory; RESULTS.md holds what was found."""
