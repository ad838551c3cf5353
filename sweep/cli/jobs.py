"""The verbs for clusters: make the token that its processes share."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.console import echo_err
from sweep.core.paths import expand, expand_home


@click.command()
@click.argument("file", type=expand_home)
def token(file: Path) -> None:
    """Make the token that all processes of a cluster share, in a new FILE that only you can read.

    Ray reads ~/.ray/auth_token where RAY_AUTH_MODE is `token`, or the file in RAY_AUTH_TOKEN_PATH.

    sweep token ~/.ray/auth_token
    """
    from sweep.execution.auth_token import create_token

    click.echo(create_token(expand(file)))
    echo_err("copy it to every node, with mode 0600, and set RAY_AUTH_MODE=token there")


COMMANDS = (token,)
