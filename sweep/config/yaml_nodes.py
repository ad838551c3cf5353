"""YAML text as plain values with the place of each; what YAML 1.1 reads otherwise than it is written is a mistake.

PyYAML's reading, except that `1e-3` is a number and not text. Merge keys (`<<: *anchor`) are resolved here, so that a
merged value has the place where it is written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from sweep.config.yaml_syntax import syntax_mistake

KeyPath = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, from 1."""
Pair = tuple[yaml.Node, yaml.Node]

_MOST_VALUES = 100_000
_DEEPEST = 40  # levels of nesting
_LARGEST_INTEGER = 2**63 - 1
_TAG = "tag:yaml.org,2002:"
_TAGS: dict[type[yaml.Node], set[str]] = {
    yaml.ScalarNode: {_TAG + name for name in ("str", "int", "float", "bool", "null")},
    yaml.SequenceNode: {_TAG + "seq"},
    yaml.MappingNode: {_TAG + "map"},
}
_NUMBER = _TAG + "float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
_QUOTES = "quotes make it text"
_FEWER = "are there aliases of aliases?"
_KINDS = {"timestamp": "a date", "value": "a default value", "merge": "a merge key", "binary": "binary data"}


class Mistake(NamedTuple):
    """One mistake in a text: its place if it has one, the key path, a message and a hint."""

    place: Place | None
    path: KeyPath
    message: str
    hint: str = ""


class YamlError(Exception):
    """All mistakes of a text."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("; ".join(mistake.message for mistake in mistakes))


@dataclass
class Reading:
    """The values of a text, the place of each key path, and notes on values that do not look like what they are."""

    values: Any = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    notes: dict[KeyPath, str] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, except that `1e-3` is a number and not text."""

    n_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """PyYAML's, which would go on for minutes with a file that holds millions of values."""
        self.n_nodes += 1
        if self.n_nodes > _MOST_VALUES:
            raise YamlError([Mistake(None, (), f"more than {_MOST_VALUES:,} values", _FEWER)])
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number."""


_Loader.add_implicit_resolver(*_NUMBER)
_Dumper.add_implicit_resolver(*_NUMBER)


def write_yaml(values: Any) -> str:
    """Plain values as a text that `read_yaml` reads back to the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(text: str) -> Reading:
    """The values of a text. Raises YamlError with all mistakes, or the first one of syntax."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return Reading()
        walker = _Walker(loader)
        mistakes = sorted(dict.fromkeys(walker.walk(root, ())), key=lambda mistake: mistake.place or (0, 0))
        if mistakes:
            raise YamlError(mistakes)
        walker.reading.values = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        place, what, hint = syntax_mistake(error)
        raise YamlError([Mistake(place, (), what, hint)]) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        what = f"the character U+{ord(text[error.position]):04X} cannot stand in YAML"
        raise YamlError([Mistake(place, (), what, "is this a text file?")]) from None
    except RecursionError:
        raise YamlError([Mistake(None, (), "nested too deeply")]) from None
    return walker.reading


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


class _Walker:
    """Walks over the nodes of a text, notes places, and replaces merge keys by what they merge."""

    def __init__(self, loader: _Loader) -> None:
        self.loader = loader
        self.reading = Reading()
        self.flat: set[int] = set()  # nodes whose merge keys are replaced; the loader keeps all nodes

    def walk(self, node: yaml.Node, path: KeyPath) -> Iterator[Mistake]:
        """Note the place of every value; yield what is not plain, repeated and bad keys."""
        place = _place(node)
        self.reading.places[path] = place
        if len(self.reading.places) > _MOST_VALUES:  # aliases of aliases grow exponentially
            raise YamlError([Mistake(None, (), f"more than {_MOST_VALUES:,} values", _FEWER)])
        if len(path) > _DEEPEST:
            raise YamlError([Mistake(place, (), "nested too deeply", "does an alias stand in what it names?")])
        if node.tag not in _TAGS[type(node)]:
            yield Mistake(place, path, _foreign(node), _QUOTES)
        elif isinstance(node, yaml.ScalarNode):
            yield from (Mistake(place, path, *problem) for problem in self._scalar(node, path))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from self.walk(item, (*path, index))
        elif isinstance(node, yaml.MappingNode):
            yield from self._mapping(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[Mistake]:
        yield from self._flatten(node, path, frozenset())
        for key, value in node.value:
            problem = _bad_key(key)
            if problem:
                yield Mistake(_place(key), path, *problem)
                continue
            yield from self.walk(value, (*path, key.value))
            self.reading.places[(*path, key.value)] = _place(key)

    def _flatten(self, node: yaml.MappingNode, path: KeyPath, inside: frozenset[int]) -> Iterator[Mistake]:
        """Replace the merge key of a mapping by the pairs that it merges; the mapping's own keys come first."""
        if id(node) in self.flat:
            return
        if id(node) in inside:
            yield Mistake(_place(node), path, "a mapping is merged into itself", "name another anchor after `<<`")
            return
        seen: set[Any] = set()
        merged: dict[Any, Pair] = {}
        own: list[Pair] = []
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                yield _repeated(key, path)
            seen.add(name)
            if key.tag != _TAG + "merge":
                own.append((key, value))
                continue
            for source in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                if not isinstance(source, yaml.MappingNode):
                    yield Mistake(_place(key), path, "`<<` merges mappings", "write `<<: *anchor` of a mapping")
                    continue
                yield from self._flatten(source, path, inside | {id(node)})
                merged |= {each.value: (each, item) for each, item in source.value if _is_merged(each)}
        self.flat.add(id(node))
        names = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
        node.value = [pair for name, pair in merged.items() if name not in names] + own

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Iterator[tuple[str, str]]:
        """Yield (message, hint) if a scalar is no value, or one that is not what is written; else note its reading."""
        try:
            value = self.loader.construct_object(node)
        except (ValueError, LookupError):
            kind = node.tag.removeprefix(_TAG)
            yield f"{_quoted(node.value)} is not {'a truth value' if kind == 'bool' else 'a number'}", ""
            return
        if isinstance(value, float) and not math.isfinite(value):
            yield "not a finite number", ""
        elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            yield f"{_quoted(node.value)} is beyond the integers of 64 bits", ""
        elif node.style is None and not isinstance(value, str):
            if _is_surprising(node.value, value):
                yield f"`{node.value}` is the number {value} in YAML 1.1", f"write {value}, or quotes to make it text"
            elif node.value != (shown := json.dumps(value)):
                self.reading.notes[path] = f"YAML reads {_quoted(node.value)} as {shown}"


def _is_merged(key: yaml.Node) -> bool:
    """Whether a key is taken over by a merge; keys that are no text are reported where they are written."""
    return isinstance(key, yaml.ScalarNode) and key.tag != _TAG + "merge"


def _repeated(key: yaml.Node, path: KeyPath) -> Mistake:
    if key.tag == _TAG + "merge":
        return Mistake(_place(key), path, "repeated key `<<`", "merge several in one: `<<: [*one, *other]`")
    return Mistake(_place(key), (*path, str(key.value)), "repeated key", "keep one of the two")


def _is_surprising(text: str, value: Any) -> bool:
    """Whether digits are no decimal number: `1:30` has the base 60, `010` the base 8."""
    if ":" in text:
        return True
    digits = text.replace("_", "").lstrip("+-")
    return isinstance(value, int) and digits.isdecimal() and int(digits) != abs(value)


def _foreign(node: yaml.Node) -> str:
    """The message for a value that is neither text, a number, a truth value, null, a list nor a mapping."""
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.ScalarNode) and kind in _KINDS:
        return f"YAML reads {_quoted(node.value)} as {_KINDS[kind]}, which has no meaning here"
    return f"a {kind} has no meaning here"


def _bad_key(key: yaml.Node) -> tuple[str, str] | None:
    """(message, hint) for a key that is no text."""
    if not isinstance(key, yaml.ScalarNode):
        return "a list or mapping cannot be a key", "a key is text"
    if key.tag == _TAG + "str":
        return None
    if key.tag not in _TAGS[yaml.ScalarNode]:
        return f"the key {_foreign(key)}", _QUOTES
    kind = {"bool": "a truth value", "null": "nothing"}.get(key.tag.removeprefix(_TAG), "a number")
    return f"the key {_quoted(key.value)} is {kind} in YAML, expected text", _QUOTES


def _quoted(text: str) -> str:
    """A scalar as written, in one line."""
    line = " ".join(text.split())
    if not line:
        return "an empty value"
    return f"`{line[:40]}…`" if len(line) > 40 else f"`{line}`"
