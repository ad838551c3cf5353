"""Renamed configuration keys: an error that names the new key, and reading of older run folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sweep.config.document import ConfigIssue, Document, KeyPath

_EXECUTION = {
    "patience": "straggler_seconds",
    "batch": "eval_batch_size",
    "block": "block_size",
    "pool_bytes": "mmap_bytes",
    "best": "mlflow_models",
    "address": "ray_address",
}
_TRAIN = {"keep": "checkpoint", "clip": "clip_grad_norm", "together": "vmap_members"}
_POPULATION = {"own_heads": "new_heads"}
_PROTOCOLS = {"together": "combined"}


def renamed_keys(document: Document) -> Iterator[ConfigIssue]:
    """An issue for every key that was renamed; its hint is the new key."""
    for section, path, old, new in _occurrences(document.values):
        taken = f" (`{new}` is set, too)" if new in section else ""
        yield document.issue((*path, old), f"`{old}` was renamed to `{new}`", f"write {new}: …{taken}")


def rename_keys(document: Document) -> None:
    """Rename the earlier keys in place, as the `sweep.yaml` of an older run folder has them."""
    for section, _, old, new in list(_occurrences(document.values)):
        section[new] = section.pop(old)
    execution = document.values.get("execution")
    if isinstance(execution, dict) and execution.get("eval_batch_size") == "measured":
        execution["eval_batch_size"] = "auto"


def _occurrences(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], KeyPath, str, str]]:
    """(mapping, its path, old key, new key) for each old key."""
    for section, path, names in _sections(values):
        if isinstance(section, dict):
            yield from ((section, path, old, new) for old, new in names.items() if old in section)


def _sections(values: dict[str, Any]) -> Iterator[tuple[Any, KeyPath, dict[str, str]]]:
    """(mapping, its path, {old key: new key}) for each part of a configuration in which keys were renamed."""
    yield values, (), {"inside": "inspect", **_POPULATION}
    yield values.get("execution"), ("execution",), _EXECUTION
    for index, population in _items(values.get("populations")):
        yield population, ("populations", index), _POPULATION
        if isinstance(population, dict):
            yield population.get("train"), ("populations", index, "train"), _TRAIN
    for path, grid in [((), values), *((("grids", index), grid) for index, grid in _items(values.get("grids")))]:
        protocols = grid.get("protocols") if isinstance(grid, dict) else None
        yield protocols, (*path, "protocols"), _PROTOCOLS  # one protocol, not in a list
        for index, protocol in _items(protocols):
            yield protocol, (*path, "protocols", index), _PROTOCOLS


def _items(value: Any) -> Iterator[tuple[int, Any]]:
    """Pairs (index, item) of a list; nothing if it is none."""
    return iter(enumerate(value)) if isinstance(value, list) else iter(())
