"""Print the bytes of what each method gives, for a comparison of processes: `python -m tests.helpers.method_bits`."""

from __future__ import annotations

import sys

from torch import Tensor

from sweep.core.registry import get_plugin, list_plugins
from tests.helpers.provided import provided

if __name__ == "__main__":
    for name in list_plugins("methods"):
        entry = get_plugin("methods", name)
        result = entry.function(**provided(entry, entry.arity or 3)).as_subclass(Tensor)
        sys.stdout.write(f"{name} {result.numpy().tobytes().hex()}\n")
