"""Laws over every open set, found by folder; and functions of one's own."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import sweep
from sweep.cli.listing import description, listing, plugin_kinds, wording
from sweep.core.choice import PluginConfig
from sweep.core.registry import NEEDS, Plugin, RegistryError, get_plugin, list_plugins

PLUGINS = Path(sweep.__file__).parent / "plugins"
ENTRIES = [
    (kind, file.stem)
    for kind in NEEDS
    for file in sorted((PLUGINS / kind).glob("*.py"))
    if not file.stem.startswith("_")
]
every_entry = pytest.mark.parametrize(("kind", "name"), ENTRIES, ids=lambda part: str(part))


def test_every_folder_of_functions_is_an_open_set() -> None:
    folders = {path.name for path in PLUGINS.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(NEEDS)
    for kind in NEEDS:
        assert list_plugins(kind) == [name for each, name in ENTRIES if each == kind] != []


@every_entry
def test_files_define_the_function_of_their_name(kind: str, name: str) -> None:
    entry = get_plugin(kind, name)
    assert entry.function.__name__ == entry.name == name
    assert entry.function.__module__ == f"sweep.plugins.{kind}.{name}"


@every_entry
def test_docstrings_begin_with_one_line(kind: str, name: str) -> None:
    first, *rest = (inspect.getdoc(get_plugin(kind, name).function) or "").splitlines()
    assert first.endswith(".")
    assert len(first) > 10
    assert not rest or not rest[0], "the idea is one line, then an empty one"


@every_entry
def test_settings_are_declared_with_types_and_defaults_that_hold(kind: str, name: str) -> None:
    entry = get_plugin(kind, name)
    for parameter in entry.signature.parameters.values():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        assert parameter.name in entry.hints, f"{parameter.name} has no type"
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert parameter.default is parameter.empty, "what the engine brings has no default"
    required = [key for key, field in entry.settings.model_fields.items() if field.is_required()]
    if required:
        with pytest.raises(RegistryError) as raised:
            entry.validate({})
        assert [what for _, what, _ in raised.value.problems] == [f"`{key}` is missing" for key in required]
    else:
        filled = entry.validate({})
        assert list(filled) == list(entry.settings.model_fields)
        assert entry.validate(filled) == filled


@every_entry
def test_needs_are_what_the_engine_brings(kind: str, name: str) -> None:
    entry = get_plugin(kind, name)
    assert set(entry.needs) <= NEEDS[kind]
    assert len(set(entry.needs)) == len(entry.needs)
    if kind == "methods":
        assert entry.space in ("weights", "features", "logits")
        assert entry.arity >= 0
        assert entry.space == "weights" or not entry.arity, "arity is told by `members`"


@every_entry
def test_unknown_settings_are_refused(kind: str, name: str) -> None:
    entry = get_plugin(kind, name)
    with pytest.raises(RegistryError) as raised:
        entry.validate({"no_such_setting": 1})
    assert (("no_such_setting",), "unknown key") in [(path, what) for path, what, _ in raised.value.problems]
    with pytest.raises(ValidationError):
        entry.settings(no_such_setting=1)


@every_entry
def test_what_show_says_to_write_can_be_written(kind: str, name: str) -> None:
    entry = get_plugin(kind, name)
    text = description(entry)
    assert [each["name"] for each in text["settings"]] == list(entry.settings.model_fields)
    assert all(each["type"] and "typing" not in each["type"] for each in text["settings"])
    written = yaml.safe_load(text["example"])
    if any(field.is_required() for field in entry.settings.model_fields.values()):
        assert "(required)" in text["example"]
    elif text["settings"]:
        assert entry.validate(written[name]) == entry.validate({})
    else:
        assert written == name
    assert {"name", "idea"} <= set(listing(kind)[list_plugins(kind).index(name)])
    assert entry in plugin_kinds(f"{kind}/{name}")
    assert entry in plugin_kinds(name)


@every_entry
def test_choices_are_equal_by_what_they_choose(kind: str, name: str) -> None:
    entry = get_plugin(kind, name)
    if not any(field.is_required() for field in entry.settings.model_fields.values()):
        one, other = (PluginConfig(kind, name, entry.validate({})) for _ in range(2))
        assert (one, hash(one), one.id_content) == (other, hash(other), other.id_content)
        assert one != PluginConfig(kind, name, {**one.settings, "more": 1})
        chosen = {key: value for key, value in one.settings.items() if value is not None}
        assert one.to_config == {name: chosen | yaml.safe_load(yaml.safe_dump(one.to_config))[name]}


@every_entry
def test_a_letter_too_many_or_too_few_is_answered_with_the_name(kind: str, name: str) -> None:
    for wrong in {name + "s", name[:-1], "x" + name} - set(list_plugins(kind)):
        if len(wrong) > 2:
            with pytest.raises(RegistryError) as raised:
                get_plugin(kind, wrong)
            ((path, what, hint),) = raised.value.problems
            assert (path, what) == ((), f"no `{wrong}` in {kind}")
            assert f"`{name}`" in hint


OWN = '''
from typing import Annotated
from annotated_types import Ge
def median(members, *, strength: Annotated[float, Ge(0)] = 1.0, kind: str = "x"):
    """The median."""
    return members.median(0).values
def both(logits, features, *, weight: int = 1):
    return logits, features, weight
def strange(members, nonsense): ...
def near(member): ...
def nothing(*, a: int = 1): ...
def keywords(members, **settings): ...
def star(*members): ...
def untyped(members, *, a=1): ...
def missing(members, *, a: "Nowhere" = 1): ...
number = 3
class Held:
    pass
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plugin]:
    (tmp_path / "own_methods.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("raise KeyError('at import')")
    (tmp_path / "own_syntax.py").write_text("def (:")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_methods", raising=False)
    return lambda name: get_plugin.__wrapped__("methods", name)


def test_a_function_of_ones_own_is_found(own: Callable[[str], Plugin]) -> None:
    entry = own("own_methods:median")
    assert (entry.name, entry.needs, entry.space, entry.summary) == (
        "own_methods:median",
        ("members",),
        "weights",
        "The median.",
    )
    assert entry.validate({"strength": 2}) == {"strength": 2.0, "kind": "x"}
    with pytest.raises(RegistryError) as raised:
        entry.validate({"strength": -1, "knd": "y", "kind": 3})
    assert raised.value.problems == [
        (("strength",), "expected 0 or more, got -1", ""),
        (("kind",), "expected text, got 3", "quotes make it text"),
        (("knd",), "unknown key", "did you mean `kind`?"),
    ]
    with pytest.raises(RegistryError, match="expected a number, got 'inf'"):
        entry.validate({"strength": "inf"})
    assert own("own_methods:both").space == "features"


def test_a_plugin_is_called_with_what_its_signature_names(own: Callable[[str], Plugin]) -> None:
    config = PluginConfig("methods", "own_methods:both", own("own_methods:both").validate({}))
    assert config.call(features="f", unused="u", logits="l", self="s") == ("l", "f", 1)
    config = PluginConfig("methods", "own_methods:both", {"weight": 3})
    assert config.call(logits="l", features="f") == ("l", "f", 3)
    with pytest.raises(TypeError, match=r"^methods: `own_methods:both` needs `features`, got only base, logits$"):
        config.call(logits="l", base="b")
    with pytest.raises(TypeError, match=r"^methods: `own_methods:both` needs `logits`, got only nothing$"):
        config.call()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_methods:strange", "`own_methods:strange` needs `nonsense`, which is not provided there"),
        (
            "own_methods:near",
            "`own_methods:near` needs `member`, which is not provided there .did you mean `members`..",
        ),
        ("own_methods:nothing", "`own_methods:nothing` takes neither members, features nor logits"),
        ("own_methods:keywords", "takes \\*\\*settings: needs and settings are declared one by one"),
        ("own_methods:star", "takes \\*members: needs and settings are declared one by one"),
        ("own_methods:untyped", "`own_methods:untyped` has no signature to read settings from: 'a'"),
        ("own_methods:missing", "has no signature to read settings from: name 'Nowhere' is not defined"),
        ("own_methods:number", "has no signature to read settings from: 3 is not a callable object"),
        ("own_methods:nope", "cannot load `own_methods:nope`: .*own_methods.py defines no `nope`"),
        ("own_broken:x", "cannot load `own_broken:x`: .*own_broken.py:1: KeyError: 'at import'"),
        ("own_syntax:x", "cannot load `own_syntax:x`: .*own_syntax.py:1: SyntaxError: invalid syntax"),
        ("no_such_module:x", "cannot load `no_such_module:x`: No module named 'no_such_module' .is its folder on"),
        (".relative:x", "cannot load `.relative:x`"),
        (":", "no `:` in methods"),
        ("own_methods:", "no `own_methods:` in methods"),
    ],
)
def test_what_breaks_the_rules_is_refused(own: Callable[[str], Plugin], name: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        own(name)


def test_functions_are_bound_to_their_folder() -> None:
    """What one folder brings, another does not: an alignment is no method."""
    for kind, other in itertools.permutations(NEEDS, 2):
        for name in list_plugins(kind):
            needs = set(get_plugin(kind, name).needs)
            if needs - NEEDS[other]:
                with pytest.raises(RegistryError, match="which is not provided there"):
                    get_plugin(other, f"sweep.plugins.{kind}.{name}:{name}")


def test_types_read_as_a_person_says_them() -> None:
    hints: dict[str, Any] = get_plugin("scalings", "magnify").hints
    assert wording(hints["factor"]) == "float > 0"
    assert wording(hints["members"]) == "all | first | last | all_but_first | all_but_last"
    assert wording(get_plugin("architectures", "mlp").hints["hidden"]) == "list of int ≥ 1 ≤ 100000"
    assert wording(get_plugin("datasets", "imagefolder").hints["root"]) == "folder"
    assert wording(bool) == "bool"
