"""Protocols: one file each, a defect of the published protocol as a switch, which acts where its needs say."""

from __future__ import annotations
