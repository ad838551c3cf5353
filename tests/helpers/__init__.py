"""What several tests share, a file for each subject."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
