"""Scalings: one file each, a function that gives a factor per member and tensor, or a member with other weights."""

from __future__ import annotations
