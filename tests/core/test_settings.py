"""Laws of every numeric setting: no truth value or text is a number, and none is absurd. Found, not listed."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Len
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core._pydantic_core import list_all_errors

from sweep.config.recipe import Recipe
from sweep.config.spec import Execution, ExternalPopulationConfig, PopulationConfig, SeedGrid, Settings, Subsets
from sweep.core.registry import NEEDS, get_plugin, list_plugins
from sweep.core.settings import SettingsModel, describe_errors

MODELS: dict[str, type[BaseModel]] = {
    each.__name__: each
    for each in (Recipe, Execution, ExternalPopulationConfig, PopulationConfig, SeedGrid, Settings, Subsets)
} | {f"{kind}/{name}": get_plugin(kind, name).settings for kind in NEEDS for name in list_plugins(kind)}
FORBIDDEN = ("input should", "valid integer", "tuple", "dictionary", "_type", "_error", "str", "bool", "literal[")


def shapes(annotation: Any) -> Iterator[tuple[type, int]]:
    """(number type, depth of lists) for each number in a type."""
    origin = typing.get_origin(annotation)
    if annotation in (int, float, bool):
        yield annotation, 0
    elif origin is Annotated:
        yield from shapes(typing.get_args(annotation)[0])
    elif origin in (tuple, list):
        yield from ((kind, depth + 1) for kind, depth in shapes(typing.get_args(annotation)[0]))
    elif origin is not None and origin is not Literal:
        for part in typing.get_args(annotation):
            yield from shapes(part)


FIELDS = [
    (name, key, *shape)
    for name, model in MODELS.items()
    for key, field in model.model_fields.items()
    for shape in shapes(field.annotation)
]


def problem(name: str, key: str, value: Any, depth: int) -> str:
    """The message for a value of a setting; empty if it is accepted."""
    for _ in range(depth):
        value = [value]
    try:
        MODELS[name](**{key: value})
    except ValidationError as error:
        own = [each for each in describe_errors(error, {key: value}, MODELS[name]) if each[0][:1] == (key,)]
        assert all(path == (key, *[0] * depth)[: len(path)] for path, _, _ in own)
        return "; ".join(f"{what} {hint}" for _, what, hint in own)
    return ""


def test_the_law_looks_at_many_settings() -> None:
    assert len(FIELDS) > 100
    assert {kind for *_, kind, _ in FIELDS} == {int, float, bool}


@pytest.mark.parametrize(("name", "key", "kind", "depth"), FIELDS, ids=str)
def test_neither_truth_values_nor_text_are_numbers(name: str, key: str, kind: type, depth: int) -> None:
    wrong = (1, 0, 1.0, "true", "yes") if kind is bool else (True, False, "10", "1e-3", 1.5)
    for value in wrong:
        if not (kind is float and value == 1.5):
            found = problem(name, key, value, depth)
            assert "expected " in found, (value, found)
            assert ", got " in found
            assert not any(word in found.lower().replace("string", "") for word in FORBIDDEN), found


@pytest.mark.parametrize(("name", "key", "kind", "depth"), FIELDS, ids=str)
def test_absurd_numbers_are_refused(name: str, key: str, kind: type, depth: int) -> None:
    for value in (10**30 if kind is int else 10**31, -(10**31), 1e308, 10**5000):
        assert "expected " in problem(name, key, value, depth), value


def test_whole_numbers_may_be_written_as_floats() -> None:
    assert Recipe(epochs=1e3, lr=1).epochs == 1000
    assert isinstance(Recipe(lr=1).lr, float)
    assert problem("Recipe", "epochs", 3.5, 0) == "expected a whole number, got 3.5 "


class Inner(SettingsModel):
    """A model within another."""

    depth: int = 1


OWN = create_model(
    "Own",
    __base__=SettingsModel,
    nested=(dict[str, tuple[float, ...]], {}),
    either=(Literal["auto"] | Annotated[int, Ge(1)] | tuple[float, ...], 1),
    sized=(Annotated[tuple[int, ...], Len(1, 2)], (1,)),
    word=(Annotated[str, Field(pattern="^a+$", max_length=5)], "a"),
    inner=(Inner, Inner()),
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nested": {"x": [1, True]}}, (("nested", "x", 1), "expected a number, got true", "")),
        ({"either": True}, (("either",), "expected `auto` or a whole number or a list, got true", "")),
        ({"either": 0}, (("either",), "expected `auto` or 1 or more or a list, got 0", "")),
        ({"sized": []}, (("sized",), "expected at least 1 in the list, got []", "")),
        ({"sized": "1"}, (("sized",), "expected a list, got '1'", "")),
        ({"word": 1.1}, (("word",), "expected text, got 1.1", "quotes make it text")),
        ({"word": "b"}, (("word",), "expected text that matches ^a+$, got 'b'", "")),
        ({"inner": 3}, (("inner",), "expected a mapping, got 3", "")),
        ({"inner": {"depth": "3"}}, (("inner", "depth"), "expected a whole number, got '3'", "numbers are written")),
        ({"inner": {"dept": 3}}, (("inner", "dept"), "unknown key", "did you mean `depth`?")),
    ],
)
def test_messages_name_the_place_what_was_expected_and_the_value(values: dict[str, Any], message: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        OWN(**values)
    ((path, what, hint),) = describe_errors(raised.value, values, OWN)
    assert (path, what) == message[:2]
    assert hint.startswith(message[2])


def test_no_kind_of_error_uses_the_words_of_the_validator() -> None:
    class Error:
        """An error of pydantic, of any kind."""

        def __init__(self, about: Any) -> None:
            context = {key: value or "1" for key, value in (about.get("example_context") or {}).items()}
            self.problem = {
                "type": about["type"],
                "loc": ("word",),
                "ctx": context,
                "msg": about["example_message_python"],
            }

        def errors(self, **_: Any) -> list[Any]:
            return [self.problem]

    kinds = [about for about in list_all_errors() if about["type"] not in ("missing", "extra_forbidden")]
    assert len(kinds) > 80
    for about in kinds:
        ((_, what, _),) = describe_errors(Error(about), {"word": 3}, OWN)  # type: ignore[arg-type]
        assert what
        for word in ("Input should", "input should", "tuple", "dictionary", "integer", "boolean", "instance of"):
            assert word not in what, (about["type"], what)
