"""The plug-ins: one file each, found by its name."""
