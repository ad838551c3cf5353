"""Blocks, and the parts of them that are looked at more closely after something went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sweep.lineage import Pool
from sweep.task import Items, Rows

SQUEEZES = 2
"""How often what took too much memory is tried again in smaller pieces."""


@dataclass
class Piece:
    """A block, or a part of one.

    `attempts` counts how often its worker was lost, `squeezes` how often it was made smaller for want of memory.
    `twice` says that a second worker has it, too, for the first one may hang; `done` that its rows are there.
    """

    block: str
    pool: Pool
    work: Items
    attempts: int = 0
    squeezes: int = 0
    twice: bool = False
    done: bool = False

    def parts(self, size: int) -> list[Piece]:
        """Pieces of that size, each of which flies alone."""
        works = [self.work[start : start + size] for start in range(0, len(self.work), size)]
        return [replace(self, work=work, attempts=max(self.attempts, 1)) for work in works]

    def squeezed(self) -> list[Piece]:
        """Halves at first, then one by one."""
        size = 1 if self.squeezes else max(1, (len(self.work) + 1) // 2)
        return replace(self, squeezes=self.squeezes + 1).parts(size)


@dataclass
class Open:
    """A block of which pieces are out."""

    pool: Pool
    pieces: int = 1
    attempts: int = 0
    rows: Rows = field(default_factory=Rows)
