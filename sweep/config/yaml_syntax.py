"""What is wrong with the syntax of a YAML text, in plain words."""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml


class SyntaxMistake(NamedTuple):
    """Line and column from 1, if they are known, a message and a hint."""

    place: tuple[int, int] | None
    message: str
    hint: str


_KEYS = "`key: value` needs a space after its colon and a line in the column of its neighbours; quote text with `: `"
_COLUMNS = "the keys of one level, and the dashes of one list, begin in the same column"
_QUOTES = "quotes make it text"
_MESSAGES = {
    "but found another document": ("a second document begins here", "one file is one sweep: remove the line `---`"),
    "second occurr?ence": ("this anchor is defined twice", "give each `&` a name of its own"),
    r"character '\\t' that cannot start": ("a tab stands here", "indent with spaces"),
    r"character '(.)' that cannot start": ("a value cannot begin with `{0}`", _QUOTES),
    "undefined alias '(.+)'": ("no anchor `&{0}` stands before this alias", "`&{0}` names a value, `*{0}` repeats it"),
    "mapping values are not allowed": ("a colon stands where no key can be", _KEYS),
    "sequence entries are not allowed": ("a dash stands where no list can begin", "a list begins on a line of its own"),
    "<block end>, but found '([]})])'": (
        "`{0}` closes nothing",
        "is one too many, or does `key: {{}}` lack its space?",
    ),
    "<block end>, but found '<scalar>'": (
        "text stands after the end of a value",
        "double a quote inside quotes: 'it''s'",
    ),
    "<block end>": ("this line fits no level above it", _COLUMNS),
    "expected ',' or '(.)'": ("a bracket that is opened here is not closed", "`{0}` is missing, or a comma before"),
    "unexpected end of stream": ("a quote that is opened here is not closed", "end the text with the same quote"),
    "node content, but found": ("a value is missing", "is a bracket before it not closed?"),
    "chomping": ("text stands behind `|` or `>`", "a block of text begins on the next line"),
    "could not find expected ':'": ("a key without a colon", "`key: value`, with a space after the colon"),
    "escape": (
        "between double quotes a backslash begins an escape, and this is none",
        "write a path with `/`, or between single quotes",
    ),
}
"""What PyYAML's message contains -> (message, hint); the first that fits."""
_EARLIER = ("expected ',' or", "unexpected end of stream", "could not find expected ':'")
"""Messages whose mistake is where a bracket, quote or key begins, and not where reading stopped."""


def syntax_mistake(error: yaml.MarkedYAMLError) -> SyntaxMistake:
    """The message and hint for an error of PyYAML, and the place to look at; its own words if they are not known."""
    problem = str(error.problem or error)
    mark = error.problem_mark or error.context_mark
    if any(text in problem for text in _EARLIER):
        mark = error.context_mark or mark
    place = (mark.line + 1, mark.column + 1) if mark else None
    for pattern, (message, hint) in _MESSAGES.items():
        found = re.search(pattern, problem)
        if found:
            return SyntaxMistake(place, message.format(*found.groups()), hint.format(*found.groups()))
    return SyntaxMistake(place, problem, "")
