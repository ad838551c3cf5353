"""Repairs: one file each, which correct activation statistics of the merged model with training images."""

from __future__ import annotations
