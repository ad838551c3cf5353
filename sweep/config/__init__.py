"""From YAML to a checked `Sweep`; every mistake is located."""
