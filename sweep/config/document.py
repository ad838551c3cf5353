"""A YAML file as plain values with the line and column of each, and errors that name them."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.config.yaml_nodes import KeyPath, Reading, YamlError, read_yaml, write_yaml
from sweep.core.errors import UserError
from sweep.core.text import show

__all__ = ["ConfigError", "ConfigIssue", "Document", "KeyPath", "dump", "format_path", "override", "parse"]
Key = str | int
ANCHORS = "x-"
"""Top-level keys that begin so are not read: a place for anchors."""


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
    """Plain values, and the location of each key path: `file:line:column` or the override that set it.

    `notes` holds, for values that do not look like what they are (`yes`), how YAML reads them.
    """

    name: str
    values: dict[str, Any]
    locations: dict[KeyPath, str] = field(default_factory=dict)
    notes: dict[KeyPath, str] = field(default_factory=dict)

    def location(self, path: KeyPath) -> str:
        """The location of a key path, or of the nearest enclosing value that has one."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.locations:
                return self.locations[path[:length]]
        return self.name

    def issue(self, path: KeyPath, what: str, hint: str = "") -> ConfigIssue:
        """An issue at a key path; the hint begins with how YAML reads the value, if that is not obvious."""
        hints = [each for each in (self.notes.get(path, ""), hint) if each]
        return ConfigIssue(self.location(path), path, what, "; ".join(hints))


_MOST_BYTES = 16 * 1024**2
_EXAMPLE = "see configs/digits.yaml"


def dump(values: Any) -> str:
    """Plain values as a text that `parse` reads back to the same values."""
    return write_yaml(values)


def read_document(file: Path) -> Document:
    """The document in a YAML file.

    Raises ConfigError for a file that cannot be read, bad syntax, repeated keys, and anything but a mapping at the top.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([ConfigIssue(str(file), (), f"cannot read it: {reason}", _siblings(file))]) from None
    if len(content) > _MOST_BYTES:
        what = f"more than {_MOST_BYTES // 1024**2} MiB: this is no configuration"
        raise ConfigError([ConfigIssue(str(file), (), what, _EXAMPLE)])
    return parse(_decode(content, str(file)), str(file))


def _decode(content: bytes, name: str) -> str:
    """The text of a file, without a byte order mark. Raises ConfigError if it is not UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError([ConfigIssue(name, (), "expected UTF-8, got UTF-16", "save it in the encoding UTF-8")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        place = f"{name}:{before.count(10) + 1}:{len(before) - before.rfind(10)}"
        what = f"expected UTF-8, got the byte 0x{error.object[error.start]:02x}"
        hint = "is this a text file? save it in the encoding UTF-8"
        raise ConfigError([ConfigIssue(place, (), what, hint)]) from None


def _siblings(file: Path) -> str:
    """A hint that lists configurations if the requested file does not exist."""
    found = sorted(str(path) for path in Path("configs").glob("*.yaml"))[:6]
    return "there are " + ", ".join(found) if found and not os.path.lexists(file) else ""


def parse(text: str, name: str) -> Document:
    """The document in a text. Raises ConfigError as `read_document` does."""
    reading = _read(text, name)
    if not isinstance(reading.values, dict):
        found = "nothing" if reading.values is None else show(reading.values)
        what = f"expected a mapping of keys to values, got {found}"
        raise ConfigError([ConfigIssue(f"{name}:1:1", (), what, _EXAMPLE)])
    values = json.loads(json.dumps(reading.values))  # what aliases share would change together
    locations = {path: f"{name}:{line}:{column}" for path, (line, column) in reading.places.items()}
    return Document(name, values, locations, reading.notes)


def _read(text: str, name: str) -> Reading:
    """The values of a YAML text with their places. Raises ConfigError."""
    try:
        return read_yaml(text)
    except YamlError as error:
        issues = []
        for place, path, message, hint in error.mistakes:
            where = f"{name}:{place[0]}:{place[1]}" if place else name
            issues.append(ConfigIssue(where, path, message, hint))
        raise ConfigError(issues) from None


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
        if path.startswith(ANCHORS):
            what = f"keys that begin with `{ANCHORS}` are not read"
            issues.append(ConfigIssue(name, keys, what, "override the keys that take their values from there"))
            continue
        for full in _override_targets(document.values, keys, spread):
            issues += _override(document, full, text, name)
    if issues:
        raise ConfigError(list(dict.fromkeys(issues)))


def _override(document: Document, path: KeyPath, text: str, name: str) -> list[ConfigIssue]:
    """Set a key path to the value of a YAML text, read anew for each path: paths share no mutable value."""
    try:
        reading = _read(text, name)
    except ConfigError as error:
        return [ConfigIssue(name, (*path, *m.path), m.message, m.hint) for m in error.issues]
    problem = _assign(document, path, json.loads(json.dumps(reading.values)), name)
    if problem:
        return [ConfigIssue(name, path, problem)]
    document.notes |= {(*path, *inner): note for inner, note in reading.notes.items()}
    return []


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
        document.notes.pop(inner, None)
    document.locations[path] = name
    return ""


def _has(values: Any, key: Key) -> bool:
    """Whether it is a list with that index."""
    return isinstance(values, list) and isinstance(key, int) and key < len(values)
