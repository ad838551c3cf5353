"""A YAML file as plain values with the line and column of each, and errors that name them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sweep.core.errors import UserError

Key = str | int
KeyPath = tuple[Key, ...]


@dataclass(frozen=True)
class ConfigIssue:
    """One error of a configuration: `location: key path: message`, then a hint on a line of its own."""

    location: str
    path: KeyPath
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.location}: " + (f"`{format_path(self.path)}`: " if self.path else "")
        return where + self.message + (f"\n  hint: {self.hint}" if self.hint else "")


class ConfigError(UserError):
    """Every error of a configuration, in one exception."""

    def __init__(self, issues: Sequence[ConfigIssue]) -> None:
        self.issues = list(issues)
        super().__init__("\n".join(str(issue) for issue in issues))


def format_path(path: KeyPath) -> str:
    """('methods', 0, 'ties') -> `methods[0].ties`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


@dataclass
class Document:
    """Plain values, and the location of each key path: `file:line:column` or the override that set it."""

    name: str
    values: dict[str, Any]
    locations: dict[KeyPath, str] = field(default_factory=dict)

    def location(self, path: KeyPath) -> str:
        """The location of a key path, or of the nearest enclosing value that has one."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.locations:
                return self.locations[path[:length]]
        return self.name

    def issue(self, path: KeyPath, what: str, hint: str = "") -> ConfigIssue:
        """An issue at a key path."""
        return ConfigIssue(self.location(path), path, what, hint)


_LARGEST = 100_000  # values of a document
_DEEPEST = 40  # levels of nesting
_TAGS: dict[type[yaml.Node], set[str]] = {
    yaml.ScalarNode: {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")},
    yaml.SequenceNode: {"tag:yaml.org,2002:seq"},
    yaml.MappingNode: {"tag:yaml.org,2002:map"},
}
_NUMBER = "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that `1e-3` is a number and not text."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number."""


_Loader.add_implicit_resolver(*_NUMBER)
_Dumper.add_implicit_resolver(*_NUMBER)


def dump(values: Any) -> str:
    """Plain values as a text that `parse` reads back to the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_document(file: Path) -> Document:
    """The document in a YAML file.

    Raises ConfigError for a file that cannot be read, bad syntax, repeated keys, and anything but a mapping at the top.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([ConfigIssue(str(file), (), f"cannot read it: {reason}", _siblings(file))]) from None
    return parse(text, str(file))


def _siblings(file: Path) -> str:
    """A hint that lists configurations if the requested file does not exist."""
    found = sorted(str(path) for path in Path("configs").glob("*.yaml"))[:6]
    return "there are " + ", ".join(found) if found and not os.path.lexists(file) else ""


def parse(text: str, name: str) -> Document:
    """The document in a text. Raises ConfigError as `read_document` does."""
    document = Document(name, {})
    values = _value(text, document)
    if not isinstance(values, dict):
        raise ConfigError(
            [ConfigIssue(f"{name}:1:1", (), "expected a mapping of keys to values", "see configs/digits.yaml")]
        )
    document.values = json.loads(json.dumps(values))  # what aliases share would change together
    return document


def _value(text: str, document: Document) -> Any:
    """The value of a YAML text; records the location of every value in the document. Raises ConfigError."""
    name = document.name
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        issues = list(_walk(root, (), document, loader)) if root else []
        if issues:
            raise ConfigError(issues)
        return loader.construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError([ConfigIssue(place, (), error.problem or str(error))]) from None
    except yaml.YAMLError as error:
        raise ConfigError([ConfigIssue(name, (), " ".join(str(error).split()))]) from None
    except RecursionError:
        raise ConfigError([ConfigIssue(name, (), "nested too deeply")]) from None


def _walk(node: yaml.Node, path: KeyPath, document: Document, loader: _Loader) -> Iterator[ConfigIssue]:
    """Record the location of every value; yield an issue for values that are not plain and for repeated or bad keys."""
    place = f"{document.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    document.locations[path] = place
    if len(document.locations) > _LARGEST:  # aliases of aliases grow exponentially
        hint = "are there aliases of aliases?"
        raise ConfigError([ConfigIssue(document.name, (), f"more than {_LARGEST:,} values", hint)])
    if len(path) > _DEEPEST:
        raise ConfigError([ConfigIssue(place, (), "nested too deeply", "does an alias stand in what it names?")])
    problem = _not_plain(node, loader)
    if problem:
        yield ConfigIssue(place, path, problem, "quotes make it text" if node.tag not in _TAGS[type(node)] else "")
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), document, loader)
    elif isinstance(node, yaml.MappingNode):
        yield from _walk_mapping(node, path, document, loader)


def _walk_mapping(node: yaml.MappingNode, path: KeyPath, document: Document, loader: _Loader) -> Iterator[ConfigIssue]:
    seen: set[str] = set()
    for key, value in node.value:
        at = f"{document.name}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
        if key.tag != "tag:yaml.org,2002:str" or not isinstance(key, yaml.ScalarNode):
            yield ConfigIssue(at, path, "keys are plain words here")
            continue
        if key.value in seen:
            yield ConfigIssue(at, (*path, key.value), "repeated key", "keep one of the two")
        seen.add(key.value)
        yield from _walk(value, (*path, key.value), document, loader)
        document.locations[(*path, key.value)] = at


def _not_plain(node: yaml.Node, loader: _Loader) -> str:
    """Why a value is neither text, a finite number, a boolean, null, a list nor a mapping; empty if it is one."""
    kind = node.tag.rpartition(":")[2]
    if node.tag not in _TAGS[type(node)]:
        return f"a {kind} has no meaning here"
    if not isinstance(node, yaml.ScalarNode):
        return ""
    try:
        value = loader.construct_object(node)
    except (ValueError, LookupError) as error:
        return f"not a {kind}: {error}"
    return "" if not isinstance(value, float) or math.isfinite(value) else "not a finite number"


def override(document: Document, assignments: Sequence[str], spread: frozenset[str]) -> None:
    """Set `key.path=value` pairs in the document; values are YAML.

    A path that begins with a key of `spread`, such as `train.epochs`, sets it in every population. Raises ConfigError.
    """
    issues = []
    for assignment in assignments:
        name = f"override {assignment}"
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            issues.append(ConfigIssue(name, (), "an override is key.path=value", "for example train.epochs=2"))
            continue
        keys: KeyPath = tuple(int(key) if key.isdecimal() else key for key in path.split("."))
        for full in _override_targets(document.values, keys, spread):
            try:
                value = _value(text, Document(name, {}))  # once per target: they share no mutable value
            except ConfigError as error:
                issues += [ConfigIssue(name, (*full, *m.path), m.message, m.hint) for m in error.issues]
                continue
            problem = _assign(document, full, value, name)
            if problem:
                issues.append(ConfigIssue(name, full, problem))
    if issues:
        raise ConfigError(list(dict.fromkeys(issues)))


def _override_targets(values: dict[str, Any], keys: KeyPath, spread: frozenset[str]) -> list[KeyPath]:
    """The key paths that an override sets: one, or one per population."""
    populations = values.get("populations")
    if keys[0] in spread and isinstance(populations, list):
        return [("populations", index, *keys) for index in range(len(populations))]
    return [keys]


def _assign(document: Document, path: KeyPath, value: Any, name: str) -> str:
    """Set the value at the path, creating mappings on the way. Returns a message if that is impossible, else empty."""
    values: Any = document.values
    for depth, key in enumerate(path[:-1], 1):
        if isinstance(values, dict) and isinstance(key, str):
            if values.get(key) is None or isinstance(values[key], str):  # `cnn` written short is `{cnn: {}}`
                values[key] = {values[key]: {}} if values.get(key) else {}
                document.locations[path[:depth]] = name
        elif not _has(values, key):
            return f"there is no `{format_path(path[:depth])}` to set"
        values = values[key]
    if not _has(values, path[-1]) and not (isinstance(values, dict) and isinstance(path[-1], str)):
        return f"there is no `{format_path(path)}` to set"
    values[path[-1]] = value
    for inner in [place for place in document.locations if place[: len(path)] == path]:
        del document.locations[inner]  # the replaced value has no location any more
    document.locations[path] = name
    return ""


def _has(values: Any, key: Key) -> bool:
    """Whether it is a list with that index."""
    return isinstance(values, list) and isinstance(key, int) and key < len(values)
