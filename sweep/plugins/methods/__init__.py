"""Methods: one file each, a function from members, features or logits to merged weights or averaged logits."""

from __future__ import annotations
