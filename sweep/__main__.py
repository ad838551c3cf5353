"""`python -m sweep`, the same as the command `sweep`."""

from __future__ import annotations

from sweep.cli.main import main

main(prog_name="sweep")
