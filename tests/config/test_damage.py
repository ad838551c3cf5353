"""Damaged files and any override are told mistakes or sweeps, and nothing else."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.document import ConfigError
from tests.helpers import ROOT
from tests.helpers.texts import again, checked

DIGITS = (ROOT / "configs" / "digits.yaml").read_text()


TOKENS = re.findall(r"\s+|[\w.]+|[^\w\s]", DIGITS)
ODD = st.sampled_from(
    [
        *(
            "no",
            "null",
            "~",
            ".inf",
            "-.nan",
            "1e-3",
            "1e999",
            "-1",
            "0",
            "0.5",
            "[]",
            "{}",
            "[[]]",
            "*a",
            "&a ",
            "!!int ",
        ),
        *(
            ":",
            "'",
            '"',
            "9" * 400,
            "2024-01-01",
            "x:y",
            ":x",
            "#",
            "|",
            "\t",
            "<<",
            "..",
            "?",
            "- ",
            "\n",
            "%",
            "\x07",
        ),
        *("{from: 0, to: 1, steps: 3}", "{from: 1}", "[1, 2]", "imagefolder", "none", "members", "true", "é", "a: 1\n"),
    ]
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "replace", "swap"]),
        st.integers(0, len(TOKENS) - 1),
        ODD | st.text(max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def edited(edits: list[tuple[str, int, str]]) -> str:
    tokens = list(TOKENS)
    for kind, place, odd in edits:
        if kind == "swap":
            other = len(odd) * 7 % len(tokens)
            tokens[place], tokens[other] = tokens[other], tokens[place]
        else:
            tokens[place] = {"delete": "", "double": 2 * tokens[place], "replace": odd}[kind]
    return "".join(tokens)


@given(EDITS)
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_a_reported_mistake_or_a_sweep(edits: list[tuple[str, int, str]]) -> None:
    sweep = None
    mistakes = None
    try:
        sweep = checked(edited(edits))
    except ConfigError as error:
        mistakes = error.issues
    if sweep is None:
        assert mistakes
        assert all(re.match(r"f\.yaml(:\d+:\d+)?: .", str(mistake)) for mistake in mistakes)
    else:
        assert again(sweep).id == sweep.id


@given(st.lists(st.tuples(st.sampled_from(TOKENS), ODD | st.text(max_size=9)), min_size=1, max_size=2))
@settings(max_examples=100, deadline=None)
def test_any_override_is_a_reported_mistake_or_a_sweep(pairs: list[tuple[str, str]]) -> None:
    sweep = None
    mistakes = None
    try:
        sweep = checked(DIGITS, *(f"{path.strip()}={value}" for path, value in pairs))
    except ConfigError as error:
        mistakes = error.issues
    assert again(sweep).id == sweep.id if sweep else all(mistake.message for mistake in mistakes or [None])
