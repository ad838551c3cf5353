"""What a switch of the protocol makes different about a forward pass over a split."""

from __future__ import annotations

from typing import NamedTuple


class Pass(NamedTuple):
    """Size of its batches, if it is not the run's; how many examples, if not all; and the smallest batch.

    An end that is smaller goes with the batch before it.
    """

    batch: int | None = None
    examples: int | None = None
    smallest: int = 1
