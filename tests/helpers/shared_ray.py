"""A Ray that the tests of one process share: starting one takes seconds, and five processes beside its workers."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SERVE = """
import sys
from sweep.config.spec import Execution
from sweep.execution.cluster import cluster

with cluster(Execution(workers=2)):
    import ray

    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def running_ray() -> Iterator[str]:
    """The address of a Ray with two cores; the variables that admit this process to it are set."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    # Drivers look for a cluster at the address of this machine, not at the loopback.
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVE], env=environment, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "Ray did not start"
        if "ray" in sys.modules:
            from sweep.execution.cluster import reload_ray_config

            reload_ray_config()
        yield address
        process.stdin.close()
