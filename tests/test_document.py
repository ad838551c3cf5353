"""A YAML file as plain values with places: what is refused is told where it stands, and nothing else ever happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweep.document import ConfigError, Document, Mistake, dotted, dump, override, parse, read_document

SPREAD = frozenset({"train", "members"})

BAD = {
    "bad syntax": ("a: b: c", "f.yaml:1:5: mapping values are not allowed here"),
    "open list": ("a: 1\nx: [", "f.yaml:2:5: expected the node content, but found '<stream end>'"),
    "tab": ("a: 1\n\tx: 1", "f.yaml:2:1: found character '\\t' that cannot start any token"),
    "two documents": ("a: 1\n---\nb: 1", "f.yaml:2:1: but found another document"),
    "nothing": (
        "",
        "f.yaml:1:1: a sweep is a mapping of keys to values\n  hint: see configs/digits.yaml",
    ),
    "a list": (
        "[1]",
        "f.yaml:1:1: a sweep is a mapping of keys to values\n  hint: see configs/digits.yaml",
    ),
    "repeated key": (
        "a: 1\nb: {c: 1, c: 2}\na: 3",
        "f.yaml:2:11: `b.c`: repeated key\n  hint: keep one of the two\n"
        "f.yaml:3:1: `a`: repeated key\n  hint: keep one of the two",
    ),
    "number as key": ("a: {1: 2}", "f.yaml:1:5: `a`: keys are plain words here"),
    "no as key": ("no: 2", "f.yaml:1:1: keys are plain words here"),
    "list as key": ("[a]: 2", "f.yaml:1:1: keys are plain words here"),
    "merge key": ("<<: {a: 1}", "f.yaml:1:1: keys are plain words here"),
    "infinity": ("a: [1, -.inf]", "f.yaml:1:8: `a[1]`: not a finite number"),
    "not a number": ("a: .nan", "f.yaml:1:4: `a`: not a finite number"),
    "too large a number": ("a: 1e400", "f.yaml:1:4: `a`: not a finite number"),
    "date": ("a: 2001-02-03", "f.yaml:1:4: `a`: a timestamp has no meaning here\n  hint: quotes make it text"),
    "impossible date": (
        "a: 2001-99-99",
        "f.yaml:1:4: `a`: a timestamp has no meaning here\n  hint: quotes make it text",
    ),
    "set": ("a: !!set {b}", "f.yaml:1:4: `a`: a set has no meaning here\n  hint: quotes make it text"),
    "own tag": ("a: !b c", "f.yaml:1:4: `a`: a !b has no meaning here\n  hint: quotes make it text"),
    "wrong truth value": ("a: !!bool b", "f.yaml:1:4: `a`: not a bool: 'b'"),
    "empty number": ('a: !!float ""', "f.yaml:1:4: `a`: not a float: string index out of range"),
    "alias in itself": (
        "a: &a [*a]",
        "f.yaml:1:4: nested too deeply\n  hint: does an alias stand in what it names?",
    ),
    "too deep": ("a: " + "[" * 5000, "f.yaml: nested too deeply"),
    "unknown alias": ("a: *b", "f.yaml:1:4: found undefined alias 'b'"),
    "control character": (
        "a: \x00",
        'f.yaml: unacceptable character #x0000: special characters are not allowed in "<unicode string>", position 3',
    ),
}


def told(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(text, "f.yaml")
    return str(raised.value)


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_told_where_it_stands(name: str) -> None:
    text, message = BAD[name]
    assert told(text) == message


def test_an_integer_beyond_all_bounds_is_refused() -> None:
    assert told("a: " + "9" * 5000).startswith("f.yaml:1:4: `a`: not a int: Exceeds the limit")


def test_aliases_of_aliases_do_not_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{depth}: &a{depth} [{', '.join([f'*a{depth - 1}'] * 10)}]" for depth in range(1, 20)]
    assert told("\n".join(lines)) == "f.yaml: more than 100,000 values\n  hint: are there aliases of aliases?"


def test_files_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(ConfigError, match=r"^latin\.yaml: cannot read it: 'utf-8' codec can't decode byte 0xff"):
        read_document(Path("latin.yaml"))
    with pytest.raises(ConfigError, match=r"cannot read it: embedded null byte"):
        read_document(Path("a\0b"))


def test_numbers_and_words_are_what_they_look_like() -> None:
    text = "a: 1e-3\nb: 1E5\nc: .5e+2\nd: no\ne: none\nf: 1_000\ng: e3\nh: '1e-3'\ni: ~"
    assert parse(text, "f").values == {
        **{"a": 0.001, "b": 100000.0, "c": 50.0, "d": False, "e": "none", "f": 1000, "g": "e3", "h": "1e-3"},
        "i": None,
    }


def test_what_aliases_share_changes_apart() -> None:
    document = parse("populations:\n- {train: &t {epochs: 1}}\n- {train: *t}", "f.yaml")
    override(document, ["populations.0.train.epochs=5"], SPREAD)
    assert [p["train"]["epochs"] for p in document.values["populations"]] == [5, 1]


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs")), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))


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
        line, column = (int(number) for number in document.places[path].split(":")[1:])
        assert lines[line - 1][column - 1 :].strip()
        if isinstance(path[-1], str) and path[-1].isalpha() and path[-1].isascii() and path[-1] not in "yYnN":
            assert lines[line - 1][column - 1 :].lstrip("'\"").startswith(path[-1])


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict | list):
        inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    return [full for key, item in inner for full in [(*path, key), *_paths(item, (*path, key))]]


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_document_or_a_told_mistake(text: str) -> None:
    mistakes: list[Mistake] | None = None
    try:
        document = parse(text, "f.yaml")
    except ConfigError as error:
        mistakes = error.mistakes
    if mistakes is None:
        assert json.loads(json.dumps(document.values, allow_nan=False)) == document.values
    else:
        assert mistakes
        assert all(str(mistake).startswith("f.yaml") and mistake.what for mistake in mistakes)


TEXT = """name: t
dataset: digits
populations:
- {architecture: cnn, train: {epochs: 1}}
- {architecture: mlp}
list: [1, 2]
"""


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("name=other", "name", "other"),
        ("train.epochs=2", "populations.1.train.epochs", 2),
        ("train.epochs=2", "populations.0.train.epochs", 2),
        ("train.lr=1e-3", "populations.1.train.lr", 0.001),
        ("train={epochs: 3}", "populations.0.train", {"epochs": 3}),
        ("populations.1.train.epochs=2", "populations.1.train.epochs", 2),
        ("dataset.digits.size=8", "dataset", {"digits": {"size": 8}}),
        ("list.1=no", "list", [1, False]),
        ("list=[a, 'b=c']", "list", ["a", "b=c"]),
        ("new.key=", "new", {"key": None}),
        ("a.b.c={d: 1}", "a.b.c.d", 1),
    ],
)
def test_overrides_set_what_they_say(assignment: str, path: str, value: Any) -> None:
    document = parse(TEXT, "f.yaml")
    override(document, [assignment], SPREAD)
    found: Any = document.values
    for key in path.split("."):
        found = found[int(key) if key.isdecimal() else key]
    assert found == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "train.epochs",
            "override train.epochs: an override is key.path=value\n  hint: for example train.epochs=2",
        ),
        ("=2", "override =2: an override is key.path=value\n  hint: for example train.epochs=2"),
        ("name=[", "override name=[: `name`: expected the node content, but found '<stream end>'"),
        ("name=.inf", "override name=.inf: `name`: not a finite number"),
        (
            "name={a: {b: 1, b: 2}}",
            "override name={a: {b: 1, b: 2}}: `name.a.b`: repeated key\n  hint: keep one of the two",
        ),
        ("list.2=1", "override list.2=1: `list[2]`: there is no `list[2]` to set"),
        ("list.x=1", "override list.x=1: `list.x`: there is no `list.x` to set"),
        ("list.0.x=1", "override list.0.x=1: `list[0].x`: there is no `list[0].x` to set"),
        (
            "populations.5.members=1",
            "override populations.5.members=1: `populations[5].members`: there is no `populations[5]` to set",
        ),
        ("name.0=1", "override name.0=1: `name[0]`: there is no `name[0]` to set"),
        ("list.²=1", "override list.²=1: `list.²`: there is no `list.²` to set"),
        (
            "name=2001-99-99",
            "override name=2001-99-99: `name`: a timestamp has no meaning here\n  hint: quotes make it text",
        ),
    ],
)
def test_overrides_that_cannot_be_are_told(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        override(parse(TEXT, "f.yaml"), [assignment], SPREAD)
    assert str(raised.value) == message


def test_all_wrong_overrides_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        override(parse(TEXT, "f.yaml"), ["a", "name=x", "list.9=1", "=b"], SPREAD)
    assert [mistake.place for mistake in raised.value.mistakes] == ["override a", "override list.9=1", "override =b"]


def test_places_follow_overrides() -> None:
    document = parse("a: {b: {c: 1}, d: 2}\ne: cnn", "f.yaml")
    override(document, ["a.b={c: 5}", "e.cnn.width=3", "n.m=1"], SPREAD)
    for path in (("a", "b"), ("a", "b", "c")):
        assert document.place(path) == "override a.b={c: 5}"
    assert document.place(("a", "d")) == "f.yaml:1:16"
    assert document.place(("a",)) == "f.yaml:1:1"
    assert document.place(("e",)) == document.place(("e", "cnn", "width")) == "override e.cnn.width=3"
    assert document.place(("n",)) == "override n.m=1"


@given(WORDS.filter(lambda word: word and not set(word) & set(".=")), VALUES)
@settings(max_examples=100, deadline=None)
def test_any_value_can_be_set(key: str, value: Any) -> None:
    document = Document("f.yaml", {})
    if key.isdecimal():
        with pytest.raises(ConfigError, match="there is no"):
            override(document, [f"{key}={dump(value)}"], SPREAD)
    else:
        override(document, [f"{key}={dump(value)}"], SPREAD)
        assert document.values == {key: value}


def test_key_paths_read_as_code() -> None:
    assert dotted(("methods", 0, "ties", "density", 2)) == "methods[0].ties.density[2]"
