"""Runs a sweep: driver, Ray Tune, Ray actors and progress."""
