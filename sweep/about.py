"""What the open sets hold, for `ls`, `show` and messages."""

from __future__ import annotations

import typing
from typing import Annotated, Any

from sweep.registry import NEEDS, Entry, find, names

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def listing(kind: str) -> list[dict[str, str]]:
    """Name, and space of a method, with the idea in a line."""
    rows = []
    for name in names(kind):
        entry = find(kind, name)
        space = {"space": entry.space} if kind == "methods" else {}
        rows.append({"name": name, **space, "idea": entry.summary})
    return rows


def found_as(name: str) -> list[Entry]:
    """Every function of that name, in any open set; `kind/name` means one."""
    kind, slash, rest = name.partition("/")
    if slash and kind in NEEDS:
        return [find(kind, rest)]
    return [find(kind, name) for kind in NEEDS if name in names(kind)]


def description(entry: Entry) -> dict[str, Any]:
    """Idea, needs and settings of a function, the recipe that it states, and how a configuration writes it."""
    settings = [
        {"name": key, "type": wording(entry.hints[key]), "default": _default(field)}
        for key, field in entry.settings.model_fields.items()
    ]
    example = ", ".join(f"{each['name']}: {_yaml(each['default'])}" for each in settings)
    return {
        "kind": entry.kind,
        "name": entry.name,
        "idea": entry.summary,
        "needs": list(entry.needs),
        "settings": settings,
        "recipes": {name: stated for name in ("RECIPE", "FINE_TUNING") if (stated := entry.stated(name))},
        "example": f"{entry.name}: {{{example}}}" if settings else entry.name,
    }


def _default(field: Any) -> Any:
    return "(required)" if field.is_required() else field.default


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def wording(annotation: Any) -> str:
    """A type with its bounds, as a person would say it: `float ≥ 0 ≤ 1`, `first | average`."""
    if typing.get_origin(annotation) is Annotated:
        inner, *marks = typing.get_args(annotation)
        bounds = [f"{sign} {getattr(m, key)}" for m in marks for key, sign in _BOUNDS.items() if hasattr(m, key)]
        return " ".join([wording(inner), *bounds])
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    if typing.get_origin(annotation) in (tuple, list):
        return f"list of {wording(typing.get_args(annotation)[0])}"
    return {"str": "text", "Path": "folder"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )
