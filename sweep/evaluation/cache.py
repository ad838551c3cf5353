"""The cache of everything that is computed once for many candidates."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from cachetools import LRUCache

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(LRUCache[Key, Value]):
    """A least-recently-used cache that is bounded by the sum of its values' sizes, by default by their number.

    The newest value always stays: one that is larger than the bound takes the place of all others.
    """

    def __init__(self, max_size: int, size: Callable[[Value], int] = lambda _: 1) -> None:
        super().__init__(max_size, getsizeof=lambda value: min(size(value), max_size))

    def get_or_make(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key; where there is none yet, what `make` returns, which is then kept."""
        if key in self:
            return self[key]
        value = make()
        self[key] = value
        return value
