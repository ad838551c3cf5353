"""A verb that gets SIGTERM ends with a message and the exit code of the signal."""

from __future__ import annotations

import signal
import subprocess
import sys

VERB = """
import time
import click
from sweep.core.command_group import ErrorHandlingGroup

@click.group(cls=ErrorHandlingGroup)
def main():
    pass

@main.command()
def wait():
    print("ready", flush=True)
    time.sleep(60)

main()
"""


def test_sigterm_ends_every_verb_with_its_code() -> None:
    command = [sys.executable, "-c", VERB, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=30)
    assert (process.returncode, message) == (143, "stopped by SIGTERM\n")
