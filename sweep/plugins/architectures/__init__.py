"""Architectures: one file each, a function from classes, channels and size to a `torch.nn.Module`."""

from __future__ import annotations
