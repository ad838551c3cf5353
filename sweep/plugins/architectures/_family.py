"""Gives the functions of one family of networks, which differ in a number, the names of their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Builder = TypeVar("Builder", bound=Callable[..., object])


def name_builder(builder: Builder, name: str, documentation: str) -> Builder:
    """The function under the name of an architecture: it is then found, documented and pickled as that of its file."""
    builder.__name__ = name
    builder.__qualname__ = name
    builder.__module__ = f"{__package__}.{name}"
    builder.__doc__ = documentation
    return builder
