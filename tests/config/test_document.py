"""A YAML file as plain values with places: what is refused is told where it stands, and nothing else ever happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweep.config.document import ConfigError, ConfigIssue, dump, format_path, parse, read_document
from tests.helpers.values import VALUES, WORDS

BAD = {
    "two colons": (
        "a: b: c",
        "f.yaml:1:5: a colon stands where no key can be\n"
        "  hint: `key: value` needs a space after its colon and a line in the column of its neighbours; "
        "quote text with `: `",
    ),
    "open list": (
        "a: 1\nx: [",
        "f.yaml:2:5: a value is missing\n  hint: is a bracket before it not closed?",
    ),
    "list closed by the next key": (
        "a: [1, 2\nb: 3",
        "f.yaml:1:4: a bracket that is opened here is not closed\n  hint: `]` is missing, or a comma before",
    ),
    "open quote": (
        "a: 'x\nb: 1\n",
        "f.yaml:1:4: a quote that is opened here is not closed\n  hint: end the text with the same quote",
    ),
    "no space after a colon": (
        "a: 1\nb:{c: {}}",
        "f.yaml:2:9: `}` closes nothing\n  hint: is one too many, or does `key: {}` lack its space?",
    ),
    "a key alone": (
        "a: 1\nb\nc: 2",
        "f.yaml:2:1: a key without a colon\n  hint: `key: value`, with a space after the colon",
    ),
    "other columns": (
        "a:\n  - x\n b: 1",
        "f.yaml:3:2: this line fits no level above it\n"
        "  hint: the keys of one level, and the dashes of one list, begin in the same column",
    ),
    "an alias of nothing": (
        "a: *b",
        "f.yaml:1:4: no anchor `&b` stands before this alias\n  hint: `&b` names a value, `*b` repeats it",
    ),
    "a mail address": ("a: @b", "f.yaml:1:4: a value cannot begin with `@`\n  hint: quotes make it text"),
    "tab": ("a: 1\n\tx: 1", "f.yaml:2:1: a tab stands here\n  hint: indent with spaces"),
    "two documents": (
        "a: 1\n---\nb: 1",
        "f.yaml:2:1: a second document begins here\n  hint: one file is one sweep: remove the line `---`",
    ),
    "nothing": (
        "",
        "f.yaml:1:1: expected a mapping of keys to values, got nothing\n  hint: see configs/digits.yaml",
    ),
    "a list": (
        "[1]",
        "f.yaml:1:1: expected a mapping of keys to values, got [1]\n  hint: see configs/digits.yaml",
    ),
    "repeated key": (
        "a: 1\nb: {c: 1, c: 2}\na: 3",
        "f.yaml:2:11: `b.c`: repeated key\n  hint: keep one of the two\n"
        "f.yaml:3:1: `a`: repeated key\n  hint: keep one of the two",
    ),
    "number as key": (
        "a: {1: 2}",
        "f.yaml:1:5: `a`: the key `1` is a number in YAML, expected text\n  hint: quotes make it text",
    ),
    "no as key": (
        "no: 2",
        "f.yaml:1:1: the key `no` is a truth value in YAML, expected text\n  hint: quotes make it text",
    ),
    "list as key": ("[a]: 2", "f.yaml:1:1: a list or mapping cannot be a key\n  hint: a key is text"),
    "merge of a list": (
        "<<: [1]",
        "f.yaml:1:1: `<<` merges mappings\n  hint: write `<<: *anchor` of a mapping",
    ),
    "two merge keys": (
        "a: &a {b: 1}\nc: {<<: *a, <<: *a}",
        "f.yaml:2:13: `c`: repeated key `<<`\n  hint: merge several in one: `<<: [*one, *other]`",
    ),
    "a path of Windows": (
        'a: "C:\\Users"',
        "f.yaml:1:9: between double quotes a backslash begins an escape, and this is none\n"
        "  hint: write a path with `/`, or between single quotes",
    ),
    "a mapping that merges itself": (
        "a: &a {<<: *a}",
        "f.yaml:1:4: `a`: a mapping is merged into itself\n  hint: name another anchor after `<<`",
    ),
    "repeated anchor": (
        "a: &a 1\nb: &a 2",
        "f.yaml:2:4: this anchor is defined twice\n  hint: give each `&` a name of its own",
    ),
    "base 60": (
        "a: 1:30",
        "f.yaml:1:4: `a`: `1:30` is the number 90 in YAML 1.1\n  hint: write 90, or quotes to make it text",
    ),
    "base 8": (
        "a: 010",
        "f.yaml:1:4: `a`: `010` is the number 8 in YAML 1.1\n  hint: write 8, or quotes to make it text",
    ),
    "infinity": ("a: [1, -.inf]", "f.yaml:1:8: `a[1]`: not a finite number"),
    "not a number": ("a: .nan", "f.yaml:1:4: `a`: not a finite number"),
    "too large a number": ("a: 1e400", "f.yaml:1:4: `a`: not a finite number"),
    "date": (
        "a: 2001-02-03",
        "f.yaml:1:4: `a`: YAML reads `2001-02-03` as a date, which has no meaning here\n  hint: quotes make it text",
    ),
    "impossible date": (
        "a: 2001-99-99",
        "f.yaml:1:4: `a`: YAML reads `2001-99-99` as a date, which has no meaning here\n  hint: quotes make it text",
    ),
    "set": ("a: !!set {b}", "f.yaml:1:4: `a`: a set has no meaning here\n  hint: quotes make it text"),
    "own tag": ("a: !b c", "f.yaml:1:4: `a`: a !b has no meaning here\n  hint: quotes make it text"),
    "wrong truth value": ("a: !!bool b", "f.yaml:1:4: `a`: `b` is not a truth value"),
    "empty number": ('a: !!float ""', "f.yaml:1:4: `a`: an empty value is not a number"),
    "alias in itself": (
        "a: &a [*a]",
        "f.yaml:1:4: nested too deeply\n  hint: does an alias stand in what it names?",
    ),
    "too deep": ("a: " + "[" * 5000, "f.yaml: nested too deeply"),
    "control character": (
        "a: \x00",
        "f.yaml:1:4: the character U+0000 cannot stand in YAML\n  hint: is this a text file?",
    ),
}


def reported(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(text, "f.yaml")
    return str(raised.value)


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_reported_where_it_stands(name: str) -> None:
    text, message = BAD[name]
    assert reported(text) == message


def test_an_integer_beyond_all_bounds_is_refused() -> None:
    for text, what in (("9" * 5000, "not a number"), ("0x" + "f" * 5000, "beyond the integers of 64 bits")):
        assert reported(f"a: {text}") == f"f.yaml:1:4: `a`: `{text[:40]}…` is {what}"
    assert reported(f"a: {2**63}") == f"f.yaml:1:4: `a`: `{2**63}` is beyond the integers of 64 bits"
    assert parse(f"a: {2**63 - 1}", "f.yaml").values == {"a": 2**63 - 1}


def test_aliases_of_aliases_do_not_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 10)}]" for depth in range(1, 20)]
    assert reported("\n".join(lines)) == "f.yaml: more than 100,000 values\n  hint: are there aliases of aliases?"


def test_files_that_cannot_be_read_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^nope\.yaml: cannot read it: No such file or directory$"):
        read_document(Path("nope.yaml"))
    Path("configs").mkdir()
    Path("configs/one.yaml").write_text("name: one")
    with pytest.raises(ConfigError, match=r"No such file or directory\n  hint: there are configs/one\.yaml$"):
        read_document(Path("nope.yaml"))
    with pytest.raises(ConfigError, match=r"^configs: cannot read it: Is a directory$"):
        read_document(Path("configs"))
    Path("latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(
        ConfigError, match=r"^latin\.yaml:1:7: expected UTF-8, got the byte 0xff\n  hint: is this a text"
    ):
        read_document(Path("latin.yaml"))
    with pytest.raises(ConfigError, match=r"cannot read it: embedded null byte"):
        read_document(Path("a\0b"))
    Path("wide.yaml").write_text("name: one", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"^wide\.yaml: expected UTF-8, got UTF-16\n  hint: save it"):
        read_document(Path("wide.yaml"))
    Path("marked.yaml").write_bytes(b"\xef\xbb\xbfname: one\r\nseed: 2\r\n")
    document = read_document(Path("marked.yaml"))
    assert (document.values, document.location(("seed",))) == ({"name": "one", "seed": 2}, "marked.yaml:2:1")
    with pytest.raises(ConfigError, match=r"^/dev/zero: more than 16 MiB: this is no configuration"):
        read_document(Path("/dev/zero"))


MERGED = """
x-usual: &usual {members: 2, train: &train {epochs: 1, lr: 0.5}}
x-longer: &longer {<<: *usual, members: 3, train: {<<: *train, epochs: 9}}
one: {<<: *usual}
other: {members: 5, <<: [*longer, *usual], start: scratch}
"""


def test_merge_keys_are_resolved_and_keep_their_places() -> None:
    document = parse(MERGED, "f.yaml")
    assert document.values["one"] == {"members": 2, "train": {"epochs": 1, "lr": 0.5}}
    assert document.values["other"] == {"members": 5, "train": {"epochs": 9, "lr": 0.5}, "start": "scratch"}
    assert document.location(("one", "members")) == "f.yaml:2:18"
    assert document.location(("other", "members")) == "f.yaml:5:9"
    assert document.location(("other", "train", "epochs")) == "f.yaml:3:64"
    assert document.location(("other", "train", "lr")) == "f.yaml:2:56"
    document.values["one"]["train"]["lr"] = 7
    assert document.values["other"]["train"]["lr"] == 0.5


def test_merging_is_that_of_pyyaml() -> None:
    assert parse(MERGED, "f.yaml").values == yaml.safe_load(MERGED)


def test_numbers_and_words_are_what_they_look_like() -> None:
    text = "a: 1e-3\nb: 1E5\nc: .5e+2\nd: no\ne: none\nf: 1_000\ng: e3\nh: '1e-3'\ni: ~"
    assert parse(text, "f").values == {
        **{"a": 0.001, "b": 100000.0, "c": 50.0, "d": False, "e": "none", "f": 1000, "g": "e3", "h": "1e-3"},
        "i": None,
    }


@given(st.dictionaries(WORDS, VALUES, max_size=4))
@example({"1e-3": "1e-3", "no": "no", "2001-02-03": ["1_0", "0x1", "~", "null", "=", "<<", " a", "a: b", "#"]})
@settings(max_examples=200, deadline=None)
def test_what_is_dumped_is_read_back(values: dict[str, Any]) -> None:
    assert parse(dump(values), "f.yaml").values == values


@given(st.dictionaries(WORDS, VALUES, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_every_value_has_the_place_where_it_stands(values: dict[str, Any]) -> None:
    text = dump(values)
    document = parse(text, "f.yaml")
    lines = text.splitlines()
    for path in _paths(values):
        line, column = (int(number) for number in document.locations[path].split(":")[1:])
        assert lines[line - 1][column - 1 :].strip(" ")
        if isinstance(path[-1], str) and path[-1].isalpha() and path[-1].isascii() and path[-1] not in "yYnN":
            assert lines[line - 1][column - 1 :].lstrip("'\"").startswith(path[-1])


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict | list):
        inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    return [full for key, item in inner for full in [(*path, key), *_paths(item, (*path, key))]]


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_document_or_a_reported_mistake(text: str) -> None:
    mistakes: list[ConfigIssue] | None = None
    try:
        document = parse(text, "f.yaml")
    except ConfigError as error:
        mistakes = error.issues
    if mistakes is None:
        assert json.loads(json.dumps(document.values, allow_nan=False)) == document.values
    else:
        assert mistakes
        assert all(str(mistake).startswith("f.yaml") and mistake.message for mistake in mistakes)


def test_key_paths_read_as_code() -> None:
    assert format_path(("methods", 0, "ties", "density", 2)) == "methods[0].ties.density[2]"
