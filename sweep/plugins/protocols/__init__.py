"""Protocols: one file each, a defect of a published protocol as a switch; its parameters say where it acts."""

from __future__ import annotations
