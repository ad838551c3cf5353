"""Plug-in choices and settings of a configuration, expanded: a list in place of one value means "each of these"."""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from sweep.config.document import ConfigError, ConfigIssue, Document, KeyPath
from sweep.core.choice import PluginConfig
from sweep.core.registry import RegistryError, get_plugin, list_plugins
from sweep.core.settings import describe_errors
from sweep.core.text import show

Model = TypeVar("Model", bound=BaseModel)

_RANGE = {"from": math.nan, "to": math.nan, "steps": 0, "log": False}
_LARGEST = 1_000_000


class _Point(NamedTuple):
    """One combination of settings, and the key path of each value."""

    values: dict[str, Any]
    locations: dict[str, KeyPath]


def parse_choices(kind: str, value: Any, path: KeyPath, document: Document) -> list[PluginConfig]:
    """The plug-in configurations of a value, without repetition.

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
    """The plug-in configurations of one item: the grid of its settings."""
    name, settings = _plugin_config(kind, item, path, document)
    here = (*path, name) if isinstance(item, dict) else path
    try:
        plugin = get_plugin(kind, name)
    except RegistryError as error:
        raise ConfigError([document.issue(here, what, hint) for _, what, hint in error.problems]) from None
    if not isinstance(settings, dict):
        raise ConfigError([document.issue(here, f"expected a mapping of settings, got {show(settings)}")])
    configs: list[PluginConfig] = []
    issues: list[ConfigIssue] = []
    for point in expand_grid(plugin.settings, settings, here, document):
        try:
            configs.append(PluginConfig(kind, name, plugin.validate(point.values)))
        except RegistryError as error:
            issues += [_located(document, here, point, problem) for problem in error.problems]
    if issues:
        raise ConfigError(list(dict.fromkeys(issues)))
    return configs


def _plugin_config(kind: str, item: Any, path: KeyPath, document: Document) -> tuple[str, Any]:
    """Name and settings of an item. Raises ConfigError for what YAML does not read as text, such as `no` and `1.10`."""
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        ((name, settings),) = item.items()
        return str(name), {} if settings is None else settings
    example = f"write a name, or one name with its settings: {{{list_plugins(kind)[0]}: {{…}}}}"
    hint = example if isinstance(item, dict | list) else f"quotes make it text; {example}"
    raise ConfigError([document.issue(path, f"not one of the {kind}: {show(item)}", hint)])


def _located(document: Document, here: KeyPath, point: _Point, problem: tuple[KeyPath, str, str]) -> ConfigIssue:
    """The issue of one setting of a grid point, at the value that caused it."""
    path, what, hint = problem
    place = point.locations.get(str(path[0]), (*here, path[0])) if path else here
    return document.issue((*place, *path[1:]), what, hint)


def expand_grid(
    model: type[BaseModel], settings: Mapping[str, Any], path: KeyPath, document: Document
) -> Iterator[_Point]:
    """Every combination of the listed settings, the last key fastest.

    A setting whose type is a list is expanded only by a list of lists.
    """
    axes = []
    for key, value in settings.items():
        field = model.model_fields.get(key)
        listed = field is not None and _is_sequence(field.annotation)
        is_model = isinstance(value, dict) and field is not None and _takes_model(field.annotation)
        places = [(value, (*path, key))] if is_model else _axis_values(value, (*path, key), listed, document)
        axes.append([(key, *each) for each in places])
    if math.prod(len(axis) for axis in axes) > _LARGEST:
        raise ConfigError([document.issue(path, f"a grid of more than {_LARGEST:,} points")])
    for combination in itertools.product(*axes):
        yield _Point({key: value for key, value, _ in combination}, {key: place for key, _, place in combination})


def _axis_values(value: Any, path: KeyPath, listed: bool, document: Document) -> list[tuple[Any, KeyPath]]:
    """The values of one setting, each with its key path."""
    if isinstance(value, list) and (not listed or any(isinstance(item, list) for item in value)):
        if not value:
            raise ConfigError([document.issue(path, "an empty list: there is nothing to choose from")])
        return [(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict) and "from" in value:
        return [(item, path) for item in _range(value, path, document)]
    return [(value, path)]


def _range(value: dict[str, Any], path: KeyPath, document: Document) -> Sequence[float]:
    """The values of a range {from, to, steps, log}; both ends are included."""
    low, high, steps, log = (value.get(key, default) for key, default in _RANGE.items())
    if (
        set(value) - set(_RANGE)
        or not _number(low)
        or not _number(high)
        or not isinstance(steps, int)
        or isinstance(steps, bool)
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
    """Whether the type of a setting is a list or tuple."""
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return typing.get_origin(annotation) in (list, tuple)


def _takes_model(annotation: Any) -> bool:
    """Whether the value of a setting may be a mapping with settings of its own; such a mapping is not a range."""
    kinds = [annotation, *typing.get_args(annotation)]
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def parse_grid(
    model: type[BaseModel], settings: Any, path: KeyPath, document: Document, completed: Callable[..., Any] = dict
) -> list[Any]:
    """Every instance of a model for settings with lists and ranges; `completed` fills in each before validation.

    Raises ConfigError with all mistakes.
    """
    if not isinstance(settings, dict):
        raise ConfigError([document.issue(path, f"expected a mapping, got {show(settings)}")])
    found: list[Any] = []
    issues: list[ConfigIssue] = []
    for point in expand_grid(model, settings, path, document):
        values = completed(point.values)
        try:
            found.append(model(**values))
        except ValidationError as error:
            problems = describe_errors(error, values, model)
            issues += [_located(document, path, point, problem) for problem in problems]
    if issues:
        raise ConfigError(list(dict.fromkeys(issues)))
    return list(dict.fromkeys(found))


def parse_one(model: type[Model], settings: Any, path: KeyPath, document: Document) -> Model:
    """The instance of a model for settings in which lists are plain values. Raises ConfigError with all issues."""
    if not isinstance(settings, dict):
        raise ConfigError([document.issue(path, f"expected a mapping, got {show(settings)}")])
    try:
        return model(**settings)
    except ValidationError as error:
        problems = describe_errors(error, settings, model)
        raise ConfigError([document.issue((*path, *where), *about) for where, *about in problems]) from None
