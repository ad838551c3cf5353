"""What a switch of the protocol makes different about a forward pass over a split."""

from __future__ import annotations

from typing import NamedTuple


class ForwardOptions(NamedTuple):
    """Size of its batches, if it is not the run's; how many examples, if not all; and the smallest batch.

    An end that is smaller goes with the batch before it.
    """

    batch_size: int | None = None
    max_examples: int | None = None
    min_batch_size: int = 1
