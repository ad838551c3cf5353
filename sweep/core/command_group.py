"""The base of both command lines: every error becomes one message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import click

from sweep.core.causes import explain
from sweep.core.errors import UserError
from sweep.core.masking import mask_secrets
from sweep.core.output import allow_any_name, close_output, is_output_closed
from sweep.core.paths import working_folder
from sweep.core.termination import EXIT_INTERRUPTED, EXIT_TERMINATED, StoppedError, raised_termination

EXIT_FAILED = 1
EXIT_WRONG = 2
EXIT_FAULT = 3


class ErrorHandlingGroup(click.Group):
    """Shows an error that a user can fix as one message, and any other as a bug of merge-sweep."""

    prefix = ""
    """What the messages of errors begin with."""
    after_stop = ""
    """What the message after Ctrl-C or another request to stop says of the work so far."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; every error, Ctrl-C and SIGTERM become an exit code."""
        allow_any_name()
        try:
            working_folder()  # without one even the import of torch ends this process
            with raised_termination(EXIT_TERMINATED):
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt as stop:
            self._end_stopped(stop)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and is_output_closed():
                sys.exit(close_output())
            known = explain(error)
            if known is not None:
                self._end(self.prefix + self.message(known), EXIT_WRONG)
            trace = "".join(traceback.format_exception(error)).rstrip()
            bug = "this is a bug of merge-sweep: please report it with the lines above"
            self._end(f"{trace}\n{self.prefix}{bug}", EXIT_FAULT)

    def message(self, error: UserError) -> str:
        """The error and its hint."""
        return f"{error}" + (f"\n  hint: {error.hint}" if error.hint else "")

    def clear(self) -> None:
        """Remove a progress line from the terminal; nothing for verbs that show none."""

    def _end_stopped(self, stop: KeyboardInterrupt) -> None:
        """End with what asked for it.

        All was put in order when a StoppedError comes here; what Ray and MLflow left in threads may not delay the end.
        """
        if isinstance(stop, StoppedError):
            self.clear()
            click.echo(f"{stop}{self.after_stop}", err=True)
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(stop.code)
        self._end(f"interrupted{self.after_stop}", EXIT_INTERRUPTED)

    def _end(self, text: str, code: int) -> None:
        self.clear()
        click.echo(mask_secrets(text), err=True)
        sys.exit(code)
