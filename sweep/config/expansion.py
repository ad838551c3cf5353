"""Choices from the open sets, and grids: a list where one value is due means "each of these"."""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from sweep.config.document import ConfigError, ConfigIssue, Document, KeyPath
from sweep.core.choice import PluginConfig
from sweep.core.registry import RegistryError, describe_validation_error, get_plugin, list_plugins

Model = TypeVar("Model", bound=BaseModel)

_RANGE = {"from": math.nan, "to": math.nan, "steps": 0, "log": False}
_LARGEST = 1_000_000


class _Point(NamedTuple):
    """One point of a grid, and where each of its values stands."""

    values: dict[str, Any]
    locations: dict[str, KeyPath]


def parse_choices(kind: str, value: Any, path: KeyPath, document: Document) -> list[PluginConfig]:
    """Every choice that a value of the configuration means, without repetition.

    A value is `name`, `{name: {setting: value}}`, or a list of those. Raises ConfigError with all mistakes.
    """
    found: list[PluginConfig] = []
    mistakes: list[ConfigIssue] = []
    items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
    if not items:
        raise ConfigError([document.issue(path, f"an empty list of {kind}")])
    for index, item in items:
        here = path if index is None else (*path, index)
        try:
            found += _settings_grid(kind, item, here, document)
        except ConfigError as error:
            mistakes += error.issues
    if mistakes:
        raise ConfigError(mistakes)
    return list(dict.fromkeys(found))


def _settings_grid(kind: str, item: Any, path: KeyPath, document: Document) -> list[PluginConfig]:
    """The choices that one item means."""
    name, settings = _plugin_config(kind, item, path, document)
    here = (*path, name) if isinstance(item, dict) else path
    try:
        entry = get_plugin(kind, name)
    except RegistryError as error:
        raise ConfigError([document.issue(here, what, hint) for _, what, hint in error.problems]) from None
    if not isinstance(settings, dict):
        raise ConfigError([document.issue(here, f"settings of `{name}` are a mapping, not {settings!r}")])
    checked, mistakes = [], []
    for point in expand_grid(entry.settings, settings, here, document):
        try:
            checked.append(PluginConfig(kind, name, entry.validate(point.values)))
        except RegistryError as error:
            mistakes += [_located(document, here, point, problem) for problem in error.problems]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return checked


def _plugin_config(kind: str, item: Any, path: KeyPath, document: Document) -> tuple[str, Any]:
    """Name and settings of an item; YAML reads a bare `none` as text, but `null`, `no` and `off` as something else."""
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        ((name, settings),) = item.items()
        return str(name), {} if settings is None else settings
    example = f"write a name, or one name with its settings: {{{list_plugins(kind)[0]}: {{…}}}}"
    raise ConfigError([document.issue(path, f"not one of the {kind}: {item!r}", example)])


def _located(document: Document, here: KeyPath, point: _Point, problem: tuple[KeyPath, str, str]) -> ConfigIssue:
    """The mistake of one setting of one point of a grid, at the value that caused it."""
    path, what, hint = problem
    place = point.locations.get(str(path[0]), (*here, path[0])) if path else here
    return document.issue((*place, *path[1:]), what, hint)


def expand_grid(
    model: type[BaseModel], settings: Mapping[str, Any], path: KeyPath, document: Document
) -> Iterator[_Point]:
    """The grid that settings span, the last key fastest; a setting that is a list by type takes a list of lists."""
    axes = []
    for key, value in settings.items():
        field = model.model_fields.get(key)
        listed = field is not None and _is_sequence(field.annotation)
        axes.append([(key, *each) for each in _axis_values(value, (*path, key), listed, document)])
    if math.prod(len(axis) for axis in axes) > _LARGEST:
        raise ConfigError([document.issue(path, f"a grid of more than {_LARGEST:,} points")])
    for combination in itertools.product(*axes):
        yield _Point({key: value for key, value, _ in combination}, {key: place for key, _, place in combination})


def _axis_values(value: Any, path: KeyPath, listed: bool, document: Document) -> list[tuple[Any, KeyPath]]:
    """The values that one setting takes, each with its place."""
    if isinstance(value, list) and (not listed or any(isinstance(item, list) for item in value)):
        if not value:
            raise ConfigError([document.issue(path, "an empty list: there is nothing to choose from")])
        return [(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict) and "from" in value:
        return [(item, path) for item in _range(value, path, document)]
    return [(value, path)]


def _range(value: dict[str, Any], path: KeyPath, document: Document) -> Sequence[float]:
    """{from, to, steps, log}: both ends are in."""
    low, high, steps, log = (value.get(key, default) for key, default in _RANGE.items())
    if (
        set(value) - set(_RANGE)
        or not _number(low)
        or not _number(high)
        or not isinstance(steps, int)
        or not isinstance(log, bool)
        or not 2 <= steps <= 10_000
    ):
        hint = "a range is {from: number, to: number, steps: 2 or more, log: true or false}"
        raise ConfigError([document.issue(path, "not a range", hint)])
    between = [step / (steps - 1) for step in range(1, steps - 1)]
    if not log:
        digits = 12 - math.floor(math.log10(max(abs(low), abs(high)) or 1))
        return [low, *(round(low + (high - low) * part, digits) for part in between), high]
    if low <= 0 or high <= 0:
        raise ConfigError([document.issue(path, "a logarithmic range needs ends above 0")])
    return [low, *(float(f"{low ** (1 - part) * high**part:.12g}") for part in between), high]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_sequence(annotation: Any) -> bool:
    """Whether a setting takes a list as its one value."""
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return typing.get_origin(annotation) in (list, tuple)


def parse_grid(
    model: type[BaseModel], settings: Any, path: KeyPath, document: Document, completed: Callable[..., Any] = dict
) -> list[Any]:
    """Every instance of a model that settings with lists and ranges mean, each `completed` before it is checked.

    Raises ConfigError with all mistakes.
    """
    if not isinstance(settings, dict):
        raise ConfigError([document.issue(path, f"a mapping is due here, not {settings!r}")])
    found, mistakes = [], []
    for point in expand_grid(model, settings, path, document):
        try:
            found.append(model(**completed(point.values)))
        except ValidationError as error:
            known = list(model.model_fields)
            mistakes += [
                _located(document, path, point, describe_validation_error(problem, known)) for problem in error.errors()
            ]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return list(dict.fromkeys(found))


def parse_one(model: type[Model], settings: Any, path: KeyPath, document: Document) -> Model:
    """The instance of a model whose lists are plain values. Raises ConfigError with all mistakes."""
    if not isinstance(settings, dict):
        raise ConfigError([document.issue(path, f"a mapping is due here, not {settings!r}")])
    try:
        return model(**settings)
    except ValidationError as error:
        told: dict[KeyPath, tuple[str, str]] = {}
        for problem in error.errors():
            where, what, hint = describe_validation_error(problem, _fields(model, problem["loc"]))
            if (*path, *where) not in document.locations and (*path, *where[:-1]) in document.locations:
                where = where[:-1]  # the last step names a member of a union, which nobody wrote
            told[where] = (f"{told[where][0]}, or {what}" if where in told else what, hint)
        raise ConfigError([document.issue((*path, *where), *what) for where, what in told.items()]) from None


def _fields(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Names that are known at the last step of a key path."""
    for key in path[:-1]:
        inner = model.model_fields[str(key)].annotation if str(key) in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)
