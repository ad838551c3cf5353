"""Parse the settings of a statistic from the command line, with the types of its signature.

This is neither YAML nor pydantic: YAML reads `no` as a boolean, `1e-3` as text and `010` as 8, and both accept `yes`
for a boolean and `nan` for a number.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pandas as pd

from analysis import statistic
from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.rows.run import Run
from sweep.core.paths import expand_home
from sweep.core.text import did_you_mean

_BOOLEANS = {"true": True, "false": False}
_NONE = ("none", "null")


def parse_settings(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The settings of a statistic from `key=value` words.

    Raises AnalysisError for an unknown statistic or setting, and for a value of another type.
    """
    function = registry.get_plugin("statistics", name)
    known = registry.settings(function)
    hints = get_type_hints(function)
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise AnalysisError(word, "a setting is written `key=value`", did_you_mean(key, known))
        if key not in known:
            hint = did_you_mean(key, known) if known else f"{name} has no settings"
            raise AnalysisError(name, f"no setting `{key}`", hint)
        if key in found:
            raise AnalysisError(word, f"`{key}` is given twice", "give it once")
        try:
            found[key] = value(text, hints[key])
        except ValueError:
            raise AnalysisError(word, f"`{text}` is not {kind(hints[key])}", _example(key, known[key])) from None
    return found


def split_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Further run folders, and the settings: a folder has no `=`, and it exists or is written with a `/`."""
    folders = [word for word in words if "=" not in word and ("/" in word or expand_home(word).is_dir())]
    return [expand_home(word) for word in folders], [word for word in words if word not in folders]


def run_statistic(run: Run, name: str, chosen: dict[str, Any]) -> pd.DataFrame:
    """Compute a statistic with the given settings.

    Raises AnalysisError if the rows are unsuitable, or if a setting fails on the rows (a metric that is not numeric).
    """
    try:
        return statistic(run, name, **chosen)
    except AnalysisError:
        raise
    except ValueError as error:
        raise AnalysisError(name, f"cannot use its settings: {error}", f"see `analysis stats {name}`") from error


def _example(key: str, default: Any) -> str:
    """A hint with the default."""
    return f"the default is `{key}={written(default)}`"


def written(default: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(default, str):
        return default
    if isinstance(default, Sequence):
        return ",".join(written(one) for one in default)
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)


def value(text: str, hint: Any) -> Any:
    """Convert a text to an annotated type. Raises ValueError."""
    origin = get_origin(hint)
    parts = get_args(hint)
    if origin in (Union, types.UnionType):
        return _first(text, parts)
    if origin is Literal:
        return {str(one): one for one in parts}[text] if text in map(str, parts) else _refuse(text)
    if origin is not None:
        inside = text.strip().removeprefix("[").removesuffix("]")
        return tuple(value(one.strip(), parts[0]) for one in inside.split(",") if one.strip())
    if hint is types.NoneType:
        return None if text.lower() in _NONE else _refuse(text)
    if hint is bool:
        return _BOOLEANS[text.lower()] if text.lower() in _BOOLEANS else _refuse(text)
    found = hint(text)
    return _refuse(text) if isinstance(found, float) and not math.isfinite(found) else found


def _refuse(text: str) -> Any:
    """Raise ValueError."""
    raise ValueError(text)


def _first(text: str, hints: Sequence[Any]) -> Any:
    """The value in the first type that accepts the text; None is tried first."""
    for hint in sorted(hints, key=lambda one: one is not types.NoneType):
        try:
            return value(text, hint)
        except ValueError:
            continue
    return _refuse(text)


def kind(hint: Any) -> str:
    """A type in words."""
    origin = get_origin(hint)
    parts = get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(part) for part in parts)
    if origin is Literal:
        return "one of " + ", ".join(f"`{one}`" for one in parts)
    if origin is not None:
        return f"a list of {kind(parts[0]).removeprefix('a ')}s, with commas between them"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "none"}
    return words.get(hint, str(hint))


def describe_statistic(name: str) -> list[str]:
    """The description of a statistic, the tables that it reads, and its settings with their defaults."""
    function = registry.get_plugin("statistics", name)
    hints = get_type_hints(function)
    lines = [name, "", *(inspect.getdoc(function) or "").splitlines(), ""]
    lines.append("tables    " + ", ".join(registry.tables(function)))
    pairs = registry.settings(function).items()
    lines += [f"settings  {key}={written(default)}  ({kind(hints[key])})" for key, default in pairs]
    return lines
