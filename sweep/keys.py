"""What tells the rows of a table apart; apart from the tables, so that nothing heavy is read with it."""

from __future__ import annotations

KEYS = {
    "members": ["member_id"],
    "curves": ["member_id", "epoch"],
    "candidates": ["candidate_id", "split"],
    "pairs": ["member_a", "member_b"],
    "predictions": ["candidate_id", "split"],
    "layers": ["model_id", "tensor"],
    "templates": ["model_id", "template_class", "mean_class"],
    "tasks": ["task_id"],
}
"""The columns that tell the rows of a table apart."""
