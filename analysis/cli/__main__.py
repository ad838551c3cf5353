"""`python -m analysis.cli` is the command `analysis`."""

from analysis.cli.main import main

main(prog_name="analysis")
