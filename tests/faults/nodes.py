"""A cluster of real processes on this machine. It prints its address and reads commands from stdin: `add`, `kill N`.

`add NAME=VALUE` adds a node whose processes have this variable.
"""

from __future__ import annotations

import os
import sys

from ray.cluster_utils import Cluster

FAST = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}


def main() -> None:
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": FAST}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = []
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        verb, _, word = line.strip().partition(" ")
        if verb == "add":
            name, _, value = word.partition("=")
            os.environ.update({name: value} if name else {})
            nodes.append(cluster.add_node(num_cpus=1))
            os.environ.pop(name, None)
        else:
            cluster.remove_node(nodes[int(word)], allow_graceful=False)
        sys.stdout.write(f"{line.strip()} done\n")
        sys.stdout.flush()
    cluster.shutdown()


main()
