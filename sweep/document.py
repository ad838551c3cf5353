"""A YAML file as plain values with the place of each, and mistakes that say where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Key = str | int
KeyPath = tuple[Key, ...]


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: `place: key path: what`, then a hint on its own line."""

    place: str
    path: KeyPath
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.place}: " + (f"`{dotted(self.path)}`: " if self.path else "")
        return where + self.what + (f"\n  hint: {self.hint}" if self.hint else "")


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, told at once."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


def dotted(path: KeyPath) -> str:
    """('methods', 0, 'ties') -> `methods[0].ties`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


@dataclass
class Document:
    """Plain values, and where each key path stands: `file:line:column` or the override that set it."""

    name: str
    values: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """The place of a key path, or of the nearest thing around it that stands somewhere."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.name

    def mistake(self, path: KeyPath, what: str, hint: str = "") -> Mistake:
        """A mistake at a key path."""
        return Mistake(self.place(path), path, what, hint)


_LARGEST = 100_000


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `1e-3` is a number, as everyone who writes it means."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_document(file: Path) -> Document:
    """The document in a YAML file.

    Raises ConfigError for a file that cannot be read, bad syntax, repeated keys, and anything but a mapping at the top.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Mistake(str(file), (), f"cannot read it: {reason}", _neighbours(file))]) from None
    return parse(text, str(file))


def _neighbours(file: Path) -> str:
    """The configurations that are there, where the one asked for is not."""
    found = sorted(str(path) for path in Path("configs").glob("*.yaml"))[:6]
    return "there are " + ", ".join(found) if not file.exists() and found else ""


def parse(text: str, name: str) -> Document:
    """The document in a text; see `read_document` for what is refused."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        document = Document(name, {})
        mistakes = list(_walk(root, (), document)) if root else []
        if not isinstance(root, yaml.MappingNode):
            mistakes.append(
                Mistake(f"{name}:1:1", (), "a sweep is a mapping of keys to values", "see configs/digits.yaml")
            )
        if mistakes:
            raise ConfigError(mistakes)
        document.values = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError([Mistake(place, (), error.problem or str(error))]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError([Mistake(name, (), " ".join(str(error).split()))]) from None
    finally:
        loader.dispose()
    return document


def _walk(node: yaml.Node, path: KeyPath, document: Document) -> Iterator[Mistake]:
    """Note the place of every value, and yield keys that are repeated or no text."""
    document.places[path] = f"{document.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if len(document.places) > _LARGEST:  # aliases of aliases grow exponentially
        raise ConfigError(
            [Mistake(document.name, (), f"more than {_LARGEST:,} values", "are there aliases of aliases?")]
        )
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), document)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            at = f"{document.name}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                yield Mistake(at, path, "keys are plain words here")
                continue
            if key.value in seen:
                yield Mistake(at, (*path, key.value), "repeated key", "keep one of the two")
            seen.add(key.value)
            yield from _walk(value, (*path, key.value), document)
            document.places[(*path, key.value)] = at


def override(document: Document, assignments: Sequence[str], spread: frozenset[str]) -> None:
    """Set `key.path=value` pairs in the document; values are YAML.

    A path that begins with a key of `spread`, such as `train.epochs`, sets it in every population. Raises ConfigError.
    """
    mistakes = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        name = f"override {assignment}"
        if not equals or not path:
            mistakes.append(Mistake(name, (), "an override is key.path=value", "for example train.epochs=2"))
            continue
        try:
            value = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            mistakes.append(Mistake(name, (), f"not a value: {' '.join(str(error).split())}"))
            continue
        keys: KeyPath = tuple(int(key) if key.isdigit() else key for key in path.split("."))
        for full in _targets(document.values, keys, spread):
            problem = _assign(document.values, full, value)
            if problem:
                mistakes.append(Mistake(name, full, problem))
            document.places[full] = name
    if mistakes:
        raise ConfigError(mistakes)


def _targets(values: dict[str, Any], keys: KeyPath, spread: frozenset[str]) -> list[KeyPath]:
    """The full paths that an override means."""
    populations = values.get("populations")
    if keys[0] in spread and isinstance(populations, list):
        return [("populations", index, *keys) for index in range(len(populations))]
    return [keys]


def _assign(values: Any, path: KeyPath, value: Any) -> str:
    """Set the value at the path, making mappings on the way; a problem in words where that cannot be."""
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(values, list) and isinstance(key, int) and key < len(values):
            pass
        elif isinstance(values, dict) and isinstance(key, str):
            values[key] = _as_mapping(values.get(key)) if not last else None
        else:
            return f"there is no `{dotted(path[: depth + 1])}` to set"
        if last:
            values[key] = value
        else:
            values = values[key]
    return ""


def _as_mapping(value: Any) -> Any:
    """`cnn` written short is `{cnn: {}}`: what an override can reach into."""
    if isinstance(value, str):
        return {value: {}}
    return {} if value is None else value
