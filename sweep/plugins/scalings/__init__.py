"""Scalings: one file each, a function that returns a factor per member and tensor, or changed weights of a member."""

from __future__ import annotations
