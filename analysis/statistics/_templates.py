"""Columns of the table `templates`, for its statistics and claims."""

from __future__ import annotations

KIND = ("method", "settings", "alignment", "repair", "n_members", "weight_decay", "mixup", "labels", "input")
"""What a group of models has in common."""

PAIR = ["template_class", "mean_class"]
"""The two classes of a correlation."""
