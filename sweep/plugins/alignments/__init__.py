"""Alignments: one file each, a function that permutes the hidden units of members before they are merged."""

from __future__ import annotations
