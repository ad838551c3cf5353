"""Text for people and values for JSON, as both programs print them."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.core.errors import AnalysisError, NothingToDrawError
from sweep.core.errors import UserError, root_cause
from sweep.core.text import align_columns, did_you_mean, format_duration, null_non_finite


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_in_the_units_that_people_use(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_columns_are_padded_to_one_width() -> None:
    rows = [("name", "n"), ("a", "10"), ("longer", "")]
    assert align_columns(rows) == ["name    n", "a       10", "longer"]
    assert align_columns(rows, numeric=(False, True)) == ["name     n", "a       10", "longer"]
    with pytest.raises(ValueError, match="argument"):
        align_columns([("a", "b"), ("c",)])
    with pytest.raises(ValueError, match="argument"):
        align_columns(rows, numeric=(True,))


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=10), max_size=40, unique=True))
def test_a_hint_names_only_known_names(word: str, known: list[str]) -> None:
    hint = did_you_mean(word, known)
    assert hint == "" or any(f"`{name}`" in hint for name in known)
    assert did_you_mean(word, reversed(known)) == hint
    if word in known:
        assert hint.startswith(f"did you mean `{word}`")
    if 0 < len(known) <= 30:
        assert hint


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("metods", ["metrics", "methods", "seed"], "did you mean `methods` or `metrics`?"),
        ("abcde", ["abcxy"], "did you mean `abcxy`?"),  # a ratio of 0.6
        ("abcdef", ["abcxyz"], "known: `abcxyz`"),  # a ratio of 0.5
        ("ab1", ["ab2", "ab3", "ab4", "ab5", "ab6"], "did you mean `ab6` or `ab5` or `ab4` or `ab3`?"),
        ("x", ["b", "a"], "known: `a`, `b`"),
        ("x", [], ""),
        ("?", [chr(65 + n) for n in range(30)], "known: " + ", ".join(f"`{chr(65 + n)}`" for n in range(30))),
        ("?", [chr(65 + n) for n in range(31)], ""),
    ],
)
def test_a_hint_has_similar_names_or_all_of_a_short_list(word: str, known: list[str], hint: str) -> None:
    assert did_you_mean(word, known) == hint


def test_json_has_null_for_what_is_not_finite() -> None:
    content: dict[Any, Any] = {"a": (1.5, math.nan, [math.inf]), 3: {"b": -math.inf, "c": None, "d": True, "e": "nan"}}
    assert null_non_finite(content) == {"a": [1.5, None, [None]], "3": {"b": None, "c": None, "d": True, "e": "nan"}}
    assert json.dumps(null_non_finite(content), allow_nan=False)


@pytest.mark.parametrize("kind", [AnalysisError, NothingToDrawError])
def test_both_programs_have_one_kind_of_error(kind: type[AnalysisError]) -> None:
    error = kind("rows", "no `x`", "did you mean `y`?")
    assert isinstance(error, UserError)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert type(each) is kind
        assert str(each) == "rows: no `x`\nhint: did you mean `y`?"
        assert (each.place, each.what, each.hint) == ("rows", "no `x`", "did you mean `y`?")
    assert str(kind("rows", "none")) == "rows: none"


def test_an_error_keeps_its_hint_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UserError("what", "hint")))
    assert (str(error), error.hint) == ("what", "hint")


def test_the_cause_of_an_error_from_another_process_is_its_last_line() -> None:
    assert root_cause(ValueError("Traceback:\n  line\nKeyError: 'a'\n\n")) == "KeyError: 'a'"
    assert root_cause(ValueError()) == "ValueError"
