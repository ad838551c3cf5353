"""Repairs: one file each, statistics of the merged model mended on training images."""

from __future__ import annotations
