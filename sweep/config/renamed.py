"""Keys of a configuration that have another name now."""

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
_AUTO = "auto"


def renamed_keys(document: Document) -> Iterator[ConfigIssue]:
    """An issue for every key that has another name now; the hint gives the name."""
    for section, path, old, new in _occurrences(document.values):
        taken = f" (`{new}` is there, too)" if new in section else ""
        yield document.issue((*path, old), f"`{old}` is called `{new}` now", f"write {new}: …{taken}")


def rename_keys(document: Document) -> None:
    """Rename the keys of an earlier version, as the resolved file of an older run folder has them."""
    for section, _, old, new in list(_occurrences(document.values)):
        section[new] = section.pop(old)
    execution = document.values.get("execution")
    if isinstance(execution, dict) and execution.get("eval_batch_size") == "measured":
        execution["eval_batch_size"] = _AUTO


def _occurrences(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], KeyPath, str, str]]:
    """(mapping, its path, old key, new key) for each old key."""
    for section, path, names in _sections(values):
        if isinstance(section, dict):
            yield from ((section, path, old, new) for old, new in names.items() if old in section)


def _sections(values: dict[str, Any]) -> Iterator[tuple[Any, KeyPath, dict[str, str]]]:
    """(mapping, its path, {old key: new key}) for each part of a configuration in which keys were renamed."""
    yield values, (), {"inside": "inspect", "own_heads": "new_heads"}
    yield values.get("execution"), ("execution",), _EXECUTION
    for index, population in _items(values.get("populations")):
        yield population, ("populations", index), {"own_heads": "new_heads"}
        if isinstance(population, dict):
            yield population.get("train"), ("populations", index, "train"), _TRAIN
    for path, holder in [((), values), *((("grids", index), grid) for index, grid in _items(values.get("grids")))]:
        for index, protocol in _items(holder.get("protocols") if isinstance(holder, dict) else None):
            yield protocol, (*path, "protocols", index), {"together": "combined"}


def _items(value: Any) -> Iterator[tuple[int, Any]]:
    """The items of a list with their places; none of what is no list."""
    return iter(enumerate(value)) if isinstance(value, list) else iter(())
