"""The rows of a finished block, by table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweep.core.ids import content_id

Row = dict[str, Any]


@dataclass
class BlockRows:
    """What a block adds to the tables, and what it cost."""

    candidates: list[Row] = field(default_factory=list)
    predictions: list[Row] = field(default_factory=list)
    pairs: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    templates: list[Row] = field(default_factory=list)
    cost: Row = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, list[Row]]:
        """The rows by table, in the order in which they are written: candidates last, for they say what is done."""
        names = ("predictions", "pairs", "layers", "templates", "candidates")
        return {name: getattr(self, name) for name in names}

    def extend(self, other: BlockRows) -> None:
        """Put another's rows behind these, the costs added up; rows that were never evaluated cost nothing."""
        for table, rows in self.tables.items():
            rows += other.tables[table]
        if not other.cost:
            return
        sums = {key: self.cost.get(key, 0) + other.cost[key] for key in ("seconds", "cpu_seconds", "forward_passes")}
        self.cost = {**other.cost, **sums}

    def part(self, block: str) -> str:
        """The name of the part that these rows make, from the block and what they are; sorts them on the way.

        Pieces of a block come back in any order, and a block that was done before may lack the rows of one more split.
        """
        for rows in (self.candidates, self.predictions):
            rows.sort(key=lambda row: (row["candidate_id"], row["split"]))
        return content_id("part", [block, [[row["candidate_id"], row["split"]] for row in self.candidates]])
