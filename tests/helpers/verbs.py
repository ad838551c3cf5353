"""Calls verbs as a user does, and returns their output or error message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sweep.cli.main import main


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def right(*arguments: object) -> Any:
    """The JSON output of a verb that must succeed."""
    result = ask(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=pytest.fail)


def wrong(*arguments: object) -> str:
    """The error message of a verb for wrong usage. It must print no data."""
    result = ask(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr
