"""`python -m tests.cluster up|down`: the cluster of `make cluster-up` and `make cluster-down`."""

from __future__ import annotations

import argparse
import time

from tests.cluster import trial
from tests.cluster.installation import Installation
from tests.cluster.layout import Layout
from tests.cluster.node import Node


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("--name", choices=["try", "test"], default="try", help="`test` is the one of the tests")
    told = parser.parse_args()
    node = Node(Layout.of(told.name))
    if told.what == "down":
        node.stop()
        return
    began = time.monotonic()
    installation = Installation(node)
    for what, step in (
        ("Kubernetes", node.start),
        ("its DNS and metrics", node.wait_for_addons),
        ("images and chart", lambda: installation.install([trial.MODELS])),
        ("models", lambda: trial.prepare(installation)),
    ):
        step()
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)
    print(f"\n{trial.what_to_type(installation)}", end="")


if __name__ == "__main__":
    main()
