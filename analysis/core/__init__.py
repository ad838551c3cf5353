"""Errors, and the registry of statistics, figures and claims."""
