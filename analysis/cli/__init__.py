"""The command `analysis`."""

from analysis.cli.main import main

__all__ = ["main"]
