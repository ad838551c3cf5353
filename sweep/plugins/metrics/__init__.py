"""Metrics: one file each, a function from logits or probabilities and labels to a number."""

from __future__ import annotations
