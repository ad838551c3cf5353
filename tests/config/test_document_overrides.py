"""Overrides of a document: they set what they say, move its places, or are told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from sweep.config.document import ConfigError, Document, dump, override, parse
from tests.helpers.values import VALUES, WORDS

SPREAD = frozenset({"train", "members"})


def test_what_aliases_share_changes_apart() -> None:
    document = parse("populations:\n- {train: &t {epochs: 1}}\n- {train: *t}", "f.yaml")
    override(document, ["populations.0.train.epochs=5"], SPREAD)
    assert [p["train"]["epochs"] for p in document.values["populations"]] == [5, 1]


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
def test_overrides_set_their_keys(assignment: str, path: str, value: Any) -> None:
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
        (
            "name=[",
            "override name=[: `name`: a value is missing\n  hint: is a bracket before it not closed?",
        ),
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
            "override name=2001-99-99: `name`: YAML reads `2001-99-99` as a date, which has no meaning here\n"
            "  hint: quotes make it text",
        ),
    ],
)
def test_overrides_that_cannot_be_are_reported(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        override(parse(TEXT, "f.yaml"), [assignment], SPREAD)
    assert str(raised.value) == message


def test_all_wrong_overrides_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        override(parse(TEXT, "f.yaml"), ["a", "name=x", "list.9=1", "=b"], SPREAD)
    assert [mistake.location for mistake in raised.value.issues] == ["override a", "override list.9=1", "override =b"]


def test_places_follow_overrides() -> None:
    document = parse("a: {b: {c: 1}, d: 2}\ne: cnn", "f.yaml")
    override(document, ["a.b={c: 5}", "e.cnn.width=3", "n.m=1"], SPREAD)
    for path in (("a", "b"), ("a", "b", "c")):
        assert document.location(path) == "override a.b={c: 5}"
    assert document.location(("a", "d")) == "f.yaml:1:16"
    assert document.location(("a",)) == "f.yaml:1:1"
    assert document.location(("e",)) == document.location(("e", "cnn", "width")) == "override e.cnn.width=3"
    assert document.location(("n",)) == "override n.m=1"


@given(WORDS.filter(lambda word: word and not word.startswith("x-") and not set(word) & set(".=")), VALUES)
@settings(max_examples=100, deadline=None)
def test_any_value_can_be_set(key: str, value: Any) -> None:
    document = Document("f.yaml", {})
    if key.isdecimal():
        with pytest.raises(ConfigError, match="there is no"):
            override(document, [f"{key}={dump(value)}"], SPREAD)
    else:
        override(document, [f"{key}={dump(value)}"], SPREAD)
        assert document.values == {key: value}
