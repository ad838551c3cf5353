"""Launchers of clusters: what can be checked of them without the platform."""
