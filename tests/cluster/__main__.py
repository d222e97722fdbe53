"""`python -m tests.cluster up|down`: the cluster of `make cluster-up` and `make cluster-down`."""

from __future__ import annotations

import argparse
import time

from tests.cluster.layout import Layout
from tests.cluster.node import Node


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("--name", choices=["try", "test"], default="try")
    told = parser.parse_args()
    node = Node(Layout.of(told.name))
    if told.what == "down":
        node.stop()
        return
    start = time.monotonic()
    node.start()
    print(f"API server after {time.monotonic() - start:.1f} s")
    node.wait_for_addons()
    print(f"DNS and metrics after {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
