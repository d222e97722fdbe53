"""From the answer to a revocation to the last request that any node lets in with the key.

    python -m tests.campaigns.revocations local --count 40
    CLUSTER=as-is python -m tests.campaigns.revocations cluster --count 40

`local` is three main nodes that joined a system on this machine, `cluster` three main nodes behind one Service. Each node is
asked without a pause on a connection of its own, before the revocation and until all have refused for a while. A request counts
as let in until its answer has arrived. Exit status 1 where one was let in later than PROMISE_SECONDS.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from quarterdeck.client import Client
from quarterdeck.storage import open_storage
from tests.campaigns.cluster_rollouts import installed
from tests.cluster.behind_keys import deployed, doors_of
from tests.cluster.control import Control
from tests.local.joined_nodes import JoinedNode
from tests.local.system import LocalSystem
from tests.models import version_encoding_model
from tests.support import eventually

PROMISE_SECONDS = 10.0
NODES = 3
NAME = "revocations"
QUIET_SECONDS = 0.5
"""So long every node must have refused before it is taken for the end."""


@dataclass(frozen=True)
class Place:
    """Where to measure: a deployment, and the base URL of each of its main nodes."""

    client: Client
    name: str
    nodes: Sequence[str]


@dataclass
class Asked:
    """What one node answered to a key: when it was let in last, and since when it has been refused."""

    last: float = 0.0
    refused: float | None = None
    others: set[int] = field(default_factory=set)


@contextmanager
def local() -> Iterator[Place]:
    """Three main nodes that joined a system."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "system").mkdir()
        system = stack.enter_context(LocalSystem(folder / "system"))
        client = stack.enter_context(system.client())
        client.put_infrastructure("edge", {"kind": "static"})
        client.put_stage("edge", {"position": 9, "infrastructure": "edge"})
        nodes = [JoinedNode(folder / str(number), client, "main") for number in range(NODES)]
        for node in nodes:
            node.start(client.create_join_token({"infrastructure": "edge", "role": "main"})["token"])
            stack.callback(node.stop)
        for node in nodes:
            node.wait_up()
        ref = version_encoding_model(1).push(open_storage(client.instance()["store"]))
        client.register(ref)
        system.deploy(NAME, ref, stage="edge", access="project")
        yield Place(client, NAME, [node.url for node in nodes])


@contextmanager
def in_cluster() -> Iterator[Place]:
    """Three main nodes behind one Service."""
    with installed() as installation, Control(installation) as control, control.client() as client:
        name = f"{NAME}-{secrets.token_hex(3)}"
        deployed(control, client, {"project": name}, "default", NODES)
        try:
            yield Place(client, name, [node.url for node in doors_of(control, name)[1:]])
        finally:
            client.delete(name)


def revoked(place: Place) -> tuple[float, list[str]]:
    """Make a key, wait until every node lets it in, revoke it; seconds to the last request let in, and what went wrong."""
    key = place.client.create_key({"name": "revocations", "project": "default"})
    ending = Event()
    with ThreadPoolExecutor(len(place.nodes)) as pool:
        asked = [Asked() for _ in place.nodes]
        both = zip(place.nodes, asked, strict=True)
        asking = [pool.submit(_ask, place, node, key["secret"], one, ending) for node, one in both]
        try:
            eventually(lambda: all(one.last for one in asked))
            place.client.revoke_key(key["id"])
            answered = time.monotonic()
            eventually(lambda: all(_refuses(one, answered) for one in asked), 2 * PROMISE_SECONDS)
        finally:
            ending.set()
        for one in asking:
            one.result()
    wrong = [f"a node answered {sorted(one.others)}" for one in asked if one.others]
    return max(0.0, *(one.last - answered for one in asked)), wrong


def _refuses(one: Asked, since: float) -> bool:
    return one.refused is not None and time.monotonic() - max(one.refused, since) > QUIET_SECONDS


def _ask(place: Place, node: str, secret: str, asked: Asked, ending: Event) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=node, headers=headers, trust_env=False, timeout=30) as http:
        while not ending.is_set():
            status = http.post(f"/deployments/{place.name}/predict", json=[{"number": 1.0}]).status_code
            now = time.monotonic()
            if status == 200:
                asked.last, asked.refused = now, None
            elif status == 401:
                asked.refused = asked.refused or now
            else:
                asked.others.add(status)


def run(place: Place, count: int) -> tuple[list[float], list[str]]:
    """That many revocations, one after the other."""
    found = [revoked(place) for _ in range(count)]
    late = [f"let in {seconds:.1f} s after the revocation" for seconds, _ in found if seconds > PROMISE_SECONDS]
    return [seconds for seconds, _ in found], [*late, *(line for _, lines in found for line in lines)]


def figures(where: str, times: Sequence[float]) -> str:
    """One line."""
    middle, most = statistics.median(times), max(times)
    last = f"the last request was let in p50 {middle:.3f} s, max {most:.3f} s after the answer"
    return f"{where}: {len(times)} revocations, {NODES} nodes: {last}"


def main() -> int:
    """Measure, print; 1 on any miss."""
    places: dict[str, Any] = {"local": local, "cluster": in_cluster}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=places)
    parser.add_argument("--count", type=int, default=40, help="revocations")
    told = parser.parse_args()
    with places[told.where]() as place:
        times, misses = run(place, told.count)
    print(figures(told.where, times))
    print("\n".join(misses[:20]), file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
