"""Lists and describes plug-ins and runs, for `sweep ls` and `sweep show`."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any

from sweep.core.registry import NEEDS, Plugin, RegistryError, get_plugin, list_plugins
from sweep.core.text import align_columns, did_you_mean
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_RECIPES = {"RECIPE": "train by default", "FINE_TUNING": "with pretrained weights"}

View = tuple[Any, list[str]]
"""The same content as data for `--json` and as lines of text."""


def listing(kind: str) -> list[dict[str, str]]:
    """The plug-ins of a kind: name, space of a method, and first paragraph of the documentation."""
    rows = []
    for name in list_plugins(kind):
        plugin = get_plugin(kind, name)
        space = {"space": plugin.space} if kind == "methods" else {}
        rows.append({"name": name, **space, "idea": plugin.summary})
    return rows


def plugin_kinds(name: str) -> list[Plugin]:
    """The plug-ins of that name of every kind; `kind/name` means one. Raises RegistryError for an unknown one."""
    kind, slash, rest = name.partition("/")
    if slash and kind in NEEDS:
        return [get_plugin(kind, rest)]
    return [get_plugin(kind, name) for kind in NEEDS if name in list_plugins(kind)]


def description(plugin: Plugin) -> dict[str, Any]:
    """What a plug-in does, needs and can be set to, its recipes, and an example for a configuration."""
    settings = [
        {"name": key, "type": wording(plugin.hints[key]), "default": _default(field)}
        for key, field in plugin.settings.model_fields.items()
    ]
    example = ", ".join(f"{each['name']}: {_yaml(each['default'])}" for each in settings)
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "idea": plugin.summary,
        "documentation": plugin.documentation,
        "needs": list(plugin.needs),
        "settings": settings,
        "recipes": {name: recipe for name in ("RECIPE", "FINE_TUNING") if (recipe := plugin.constant(name))},
        "example": f"{plugin.name}: {{{example}}}" if settings else plugin.name,
    }


def _default(field: Any) -> Any:
    return "(required)" if field.is_required() else field.default


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", str(value))  # YAML reads 1e-05 as text
    return str(list(value)) if isinstance(value, tuple) else str(value)


def wording(annotation: Any) -> str:
    """A type and its bounds as text: `float ≥ 0 ≤ 1`, `first | average`."""
    if typing.get_origin(annotation) is Annotated:
        inner, *marks = typing.get_args(annotation)
        bounds = [f"{sign} {getattr(m, key)}" for m in marks for key, sign in _BOUNDS.items() if hasattr(m, key)]
        return " ".join([wording(inner), *bounds])
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(wording(each) for each in typing.get_args(annotation))
    if typing.get_origin(annotation) is dict:
        return f"mapping of text to {wording(typing.get_args(annotation)[1])}"
    if typing.get_origin(annotation) in (tuple, list):
        return f"list of {wording(typing.get_args(annotation)[0])}"
    return {"str": "text", "Path": "folder", "NoneType": "null"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def listing_of(what: str | None, *, is_long: bool = False) -> View:
    """All plug-ins by kind, those of one kind (perhaps with signatures), or the runs; StoreError for another word."""
    if what is None:
        kinds = {kind: list_plugins(kind) for kind in NEEDS}
        return kinds, [f"{kind:14} {', '.join(names)}" for kind, names in kinds.items()]
    if what == "runs":
        return _runs()
    if what not in NEEDS:
        raise StoreError(f"unknown kind {what!r}", did_you_mean(what, [*NEEDS, "runs"]))
    if is_long:
        return _signatures(what)
    rows = listing(what)
    return rows, align_columns([list(rows[0]), *[list(row.values()) for row in rows]])


def _signatures(kind: str) -> View:
    """The plug-ins of a kind with their needs and settings, a line for each setting."""
    found = [description(get_plugin(kind, name)) for name in list_plugins(kind)]
    lines = [["name", "space", "needs", "setting", "values", "default"]]
    for each in found:
        space = get_plugin(kind, each["name"]).space if kind == "methods" else ""
        start = [each["name"], space, ", ".join(each["needs"])]
        for setting in each["settings"] or [{}]:
            lines.append([*start, *(str(setting.get(key, "")) for key in ("name", "type", "default"))])
            start = ["", "", ""]
    return found, align_columns(lines)


def _runs() -> View:
    """The run folders in `runs/`."""
    found = []
    for file in sorted(Path("runs").glob("*/run.json")):
        info = RunFolder(file.parent).run_info()
        found.append({"run": str(file.parent), "begun": info.get("created_at"), "rows": _count(file.parent)})
    if not found:
        return found, ["no runs yet under runs/"]
    return found, align_columns([list(found[0]), *[[str(cell) for cell in row.values()] for row in found]])


def _count(folder: Path) -> int:
    return len(RunFolder(folder).read("candidates", ["status"]))


def descriptions_of(name: str) -> View:
    """Full descriptions of all plug-ins of that name. Raises RegistryError, with similar names, if there is none."""
    plugins = plugin_kinds(name)
    if not plugins:
        known = sorted({each for kind in NEEDS for each in list_plugins(kind)})
        raise RegistryError([((), f"no plug-in is called `{name}`", did_you_mean(name, known))])
    found = [description(plugin) for plugin in plugins]
    return found, [line for each in found for line in _description_lines(each)]


def _description_lines(each: dict[str, Any]) -> list[str]:
    settings = [[s["name"], s["type"], str(s["default"])] for s in each["settings"]]
    table = align_columns([["setting", "values", "default"], *settings]) if settings else ["no settings"]
    recipes = [f"{_RECIPES[key]}: {_mapping(recipe)}" for key, recipe in each["recipes"].items()]
    needs = f"needs: {', '.join(each['needs']) or 'nothing'}"
    lines = [*each["documentation"].splitlines(), "", needs, *table, *recipes, f"write: {each['example']}"]
    return [f"{each['kind']}/{each['name']}", *(f"  {line}".rstrip() for line in lines)]


def _mapping(recipe: dict[str, Any]) -> str:
    """Settings as a mapping of YAML."""
    return "{" + ", ".join(f"{key}: {str(value).lower()}" for key, value in recipe.items()) + "}"
