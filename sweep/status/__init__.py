"""The plan against the run folder: done, missing, how long, how large, and the checks before a run."""
