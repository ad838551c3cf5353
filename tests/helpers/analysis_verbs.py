"""Run the verbs of `analysis` as a user does."""

from __future__ import annotations

from click.testing import CliRunner, Result

from analysis.cli.main import main
from analysis.core import registry

STATISTICS = registry.list_plugins("statistics")


def ask(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def right(*words: object) -> str:
    result = ask(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def wrong(*words: object) -> str:
    """The message of a verb about wrong use; it prints no data."""
    result = ask(*words)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr


def refused(*words: object) -> str:
    """The message of a verb about wrong use, with a hint."""
    message = wrong(*words)
    assert "hint: " in message
    return message
