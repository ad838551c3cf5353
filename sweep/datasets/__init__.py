"""Data sets: one file each, a function from settings to a `sweep.data.Dataset`."""
