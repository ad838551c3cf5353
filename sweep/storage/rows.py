"""The rows of a finished block, by table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweep.core.ids import content_id

Row = dict[str, Any]


@dataclass
class BlockRows:
    """The rows of a block by table, its cost, and an error if pairs or inspected models got no rows."""

    candidates: list[Row] = field(default_factory=list)
    predictions: list[Row] = field(default_factory=list)
    pairs: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    templates: list[Row] = field(default_factory=list)
    cost: Row = field(default_factory=dict)
    error: str = ""

    @property
    def tables(self) -> dict[str, list[Row]]:
        """The rows by table in the order of writing: candidates last, since they mark a block as done."""
        names = ("predictions", "pairs", "layers", "templates", "candidates")
        return {name: getattr(self, name) for name in names}

    def extend(self, other: BlockRows) -> None:
        """Append the rows of another part of the block and add its cost; rows without a cost were not evaluated."""
        self.error = self.error or other.error
        for table, rows in self.tables.items():
            rows += other.tables[table]
        if not other.cost:
            return
        sums = {key: self.cost.get(key, 0) + other.cost[key] for key in ("seconds", "cpu_seconds", "forward_passes")}
        makers = {key: _joined(self.cost.get(key), other.cost.get(key)) for key in ("torch", "device")}
        self.cost = {**other.cost, **sums, **makers}

    def part(self, block: str) -> str:
        """Sort the rows and return the name of their Parquet part, a hash of the block's name and the rows' keys.

        Pieces of a block arrive in any order, and a block of an earlier run may lack the rows of one more split.
        """
        for rows in (self.candidates, self.predictions):
            rows.sort(key=lambda row: (row["candidate_id"], row["split"]))
        return content_id("part", [block, [[row["candidate_id"], row["split"]] for row in self.candidates]])


def _joined(before: str | None, name: str | None) -> str | None:
    """Names joined by commas, with one more name unless it is among them."""
    names = before.split(", ") if before else []
    return ", ".join([*names, name] if name and name not in names else names) or None
