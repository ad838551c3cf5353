"""SettingsModel: settings as a configuration writes them, and what is wrong with them in plain words.

A number is neither a truth value (`yes` in YAML) nor text, and has at most 64 bits. A whole number may be written as
`1000`, `1000.0` or `1e3`. This holds for every setting of every model and plug-in, so that no field has to declare it.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

from sweep.core.text import did_you_mean, show

Path = tuple[str | int, ...]
Problem = tuple[Path, str, str]
"""Path within the settings, message, hint."""

_LARGEST = {"int": 2**63 - 1, "float": 1e30}
"""Largest absolute values: integers fit 64 bits, and floats, with some operations on them, the range of float32."""


def _strict(schema: Any, owner: type[BaseModel]) -> Any:
    """A part of a pydantic schema, with a check before each number; models in that of `owner` have theirs."""
    if isinstance(schema, list | tuple):
        return type(schema)(_strict(item, owner) for item in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind == "model" and schema["cls"] is not owner and issubclass(schema["cls"], SettingsModel):
        return schema
    if kind == "bool":
        return {**schema, "strict": True}
    if kind in _LARGEST:
        check = _check_integer if kind == "int" else _check_float
        return core_schema.no_info_before_validator_function(check, schema)
    return {key: value if key in ("default", "metadata") else _strict(value, owner) for key, value in schema.items()}


def _check_integer(value: Any) -> Any:
    return _check_number(value, "int")


def _check_float(value: Any) -> Any:
    return _check_number(value, "float")


def _check_number(value: Any, kind: Literal["int", "float"]) -> Any:
    """The value; raises pydantic's error for a truth value or text, and one for a number beyond all bounds."""
    if isinstance(value, bool | str):
        raise PydanticKnownError("int_type" if kind == "int" else "float_type")
    if isinstance(value, int | float) and abs(value) > _LARGEST[kind]:
        raise PydanticCustomError("too_large", "too large", {"limit": f"{_LARGEST[kind]:,g}"})
    return value


class SettingsModel(BaseModel):
    """Settings of which no key is unknown, no value is changed and none is coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Pydantic's schema, with stricter numbers and truth values at every depth."""
        schema: core_schema.CoreSchema = _strict(handler(source), cls)
        return schema


_EXPECTED = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "text"),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type", "iterable_type"), "a list"),
    **dict.fromkeys(("model_type", "dict_type", "mapping_type", "dataclass_type"), "a mapping"),
    **dict.fromkeys(("literal_error", "enum"), "{expected}"),
    "path_type": "a path",
    "none_required": "null",
    "finite_number": "a finite number",
    "too_large": "a number of at most {limit}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} in the list",
    "too_long": "at most {max_length} in the list",
    "string_too_short": "text of {min_length} characters or more",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}
"""Kind of a pydantic error -> what was expected."""

_NUMBERS = frozenset({"a whole number", "a number"})
_PLAIN_WORDS = {
    "input should be": "expected",
    "input should": "this should",
    r"valid ": "",
    "tuple": "list",
    "dictionary": "mapping",
    "string": "text",
    "integer": "whole number",
    "boolean": "true or false",
    "python ": "",
    r"an? instance of .*": "another kind of value",
}


class _Expectation(NamedTuple):
    """What an error of pydantic expected at a path; `message` stands for a message of another form."""

    path: Path
    expected: str
    message: str
    hint: str


def describe_errors(error: ValidationError, values: Mapping[str, Any], model: type[BaseModel]) -> list[Problem]:
    """The errors of settings as problems, one for each value; `model` is what they were validated against."""
    found: dict[Path, list[_Expectation]] = {}
    problems = error.errors(include_url=False)
    for problem in problems:
        loc = problem["loc"]
        if problem["type"] == "too_short" and any(p["loc"][: len(loc)] == loc != p["loc"] for p in problems):
            continue  # pydantic does not count the items that have errors of their own
        each = _describe(problem, values, model)
        found.setdefault(each.path, []).append(each)
    return [_merge(path, each, values) for path, each in found.items()]


def _describe(problem: Mapping[str, Any], values: Mapping[str, Any], model: type[BaseModel]) -> _Expectation:
    """One error of pydantic in plain words."""
    kind = str(problem["type"])
    path = _written_path(problem["loc"], values)
    if kind == "missing":
        return _Expectation(path, "", f"`{problem['loc'][-1]}` is missing", "")
    if kind == "extra_forbidden":
        return _Expectation(path, "", "unknown key", did_you_mean(str(path[-1]), _known_keys(model, path)))
    context = {key: _plain(value) for key, value in problem.get("ctx", {}).items()}
    if kind in _EXPECTED:
        return _Expectation(path, _EXPECTED[kind].format(**context), "", "")
    message = re.sub(r"^(Value error|Assertion failed), ", "", str(problem["msg"]))
    if kind not in ("value_error", "assertion_error"):
        for pattern, plain in _PLAIN_WORDS.items():
            message = re.sub(pattern, plain, message, flags=re.IGNORECASE)
    return _Expectation(path, "", message[:1].lower() + message[1:] or "not a valid value", "")


def _known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """Keys that are allowed at the last step of a key path."""
    for key in path[:-1]:
        annotation = model.model_fields[str(key)].annotation if str(key) in model.model_fields else None
        for kind in (annotation, *typing.get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return [field.alias or name for name, field in model.model_fields.items()]


def _plain(value: Any) -> str:
    """A value from the context of an error: bounds as short numbers, choices with backticks."""
    if isinstance(value, float):
        return f"{value:,g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("'", "`")


def _written_path(loc: Path, values: Any) -> Path:
    """The part of an error's place that is written in the settings: pydantic adds the names of types in unions."""
    path: list[str | int] = []
    for step in loc:
        if isinstance(values, Mapping) and step in values:
            values = values[step]
        elif isinstance(values, Sequence) and isinstance(step, int) and not isinstance(values, str):
            values = values[step] if step < len(values) else None
        else:
            continue
        path.append(step)
    return tuple(path)


def _merge(path: Path, found: Sequence[_Expectation], values: Mapping[str, Any]) -> Problem:
    """The problem of one value, of which each type in a union expected something else."""
    expected = list(dict.fromkeys(each.expected for each in found if each.expected))
    messages = list(dict.fromkeys(each.message for each in found if each.message))
    hint = next((each.hint for each in found if each.hint), "")
    if not expected:
        return path, "; ".join(messages), hint
    value: Any = values
    for step in path:
        value = value[step]
    what = f"expected {' or '.join(expected)}, got {show(value)}"
    return path, "; ".join([what, *messages]), hint or _type_hint(value, expected)


def _type_hint(value: Any, expected: Sequence[str]) -> str:
    """How to write a value of the expected type, if only its quotes are wrong."""
    if "text" in expected and isinstance(value, int | float | None):
        return "quotes make it text"
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?[\d_]*\.?\d+([eE][-+]?\d+)?", value)
    return "numbers are written without quotes" if is_number and _NUMBERS & set(expected) else ""
