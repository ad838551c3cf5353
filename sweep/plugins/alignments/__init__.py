"""Alignments: one file each, members permuted to one another before the merge."""

from __future__ import annotations
