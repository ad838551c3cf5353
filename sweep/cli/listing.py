"""What the open sets hold, for `ls`, `show` and messages."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sweep.core.registry import NEEDS, Plugin, RegistryError, get_plugin, list_plugins
from sweep.core.registry import list_plugins as names_of
from sweep.core.text import align_columns, did_you_mean
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    pass

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def listing(kind: str) -> list[dict[str, str]]:
    """Name, and space of a method, with the idea in a line."""
    rows = []
    for name in list_plugins(kind):
        entry = get_plugin(kind, name)
        space = {"space": entry.space} if kind == "methods" else {}
        rows.append({"name": name, **space, "idea": entry.summary})
    return rows


def plugin_kinds(name: str) -> list[Plugin]:
    """Every function of that name, in any open set; `kind/name` means one."""
    kind, slash, rest = name.partition("/")
    if slash and kind in NEEDS:
        return [get_plugin(kind, rest)]
    return [get_plugin(kind, name) for kind in NEEDS if name in list_plugins(kind)]


def description(entry: Plugin) -> dict[str, Any]:
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
        "recipes": {name: stated for name in ("RECIPE", "FINE_TUNING") if (stated := entry.constant(name))},
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


Told = tuple[Any, list[str]]
_RECIPES = {"RECIPE": "train by default", "FINE_TUNING": "with pretrained weights"}


def listing_of(what: str | None) -> Told:
    """The open sets, one of them, or the runs. Raises StoreError for anything else."""
    from sweep.cli.listing import listing

    if what is None:
        kinds = {kind: names_of(kind) for kind in NEEDS}
        return kinds, [f"{kind:14} {', '.join(names)}" for kind, names in kinds.items()]
    if what == "runs":
        return _runs()
    if what not in NEEDS:
        raise StoreError(f"nothing is called {what!r} here", did_you_mean(what, [*NEEDS, "runs"]))
    rows = listing(what)
    return rows, align_columns([list(rows[0]), *[list(row.values()) for row in rows]])


def _runs() -> Told:
    """The run folders under `runs`."""
    found = []
    for file in sorted(Path("runs").glob("*/run.json")):
        info = RunFolder(file.parent).run_info()
        found.append({"run": str(file.parent), "begun": info.get("created_at"), "rows": _count(file.parent)})
    if not found:
        return found, ["no runs yet under runs/"]
    return found, align_columns([list(found[0]), *[[str(cell) for cell in row.values()] for row in found]])


def _count(folder: Path) -> int:
    return len(RunFolder(folder).read("candidates", ["status"]))


def descriptions_of(name: str) -> Told:
    """Everything of that name, in full. Raises RegistryError with near names."""
    from sweep.cli.listing import description, plugin_kinds

    entries = plugin_kinds(name)
    if not entries:
        known = sorted({each for kind in NEEDS for each in names_of(kind)})
        raise RegistryError([((), f"nothing is called `{name}`", did_you_mean(name, known))])
    found = [description(entry) for entry in entries]
    return found, [line for each in found for line in _described(each)]


def _described(each: dict[str, Any]) -> list[str]:
    settings = [[s["name"], s["type"], str(s["default"])] for s in each["settings"]]
    table = align_columns([["setting", "values", "default"], *settings]) if settings else ["no settings"]
    recipes = [f"{_RECIPES[key]}: {_pairs(recipe)}" for key, recipe in each["recipes"].items()]
    return [f"{each['kind']}/{each['name']}: {each['idea']}", f"  needs: {', '.join(each['needs']) or 'nothing'}"] + [
        f"  {line}" for line in [*table, *recipes, f"write: {each['example']}"]
    ]


def _pairs(recipe: dict[str, Any]) -> str:
    """Settings as a configuration writes them."""
    return "{" + ", ".join(f"{key}: {str(value).lower()}" for key, value in recipe.items()) + "}"
