"""The run folder: files, tables, weights, lock and damage."""
