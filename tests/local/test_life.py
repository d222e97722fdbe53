"""The whole life of a model without a cluster: from `quarterdeck up` to nodes that joined, and on joined nodes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from quarterdeck.client import Client
from quarterdeck.storage import open_storage
from tests.life import Life, Stage, set_stages
from tests.local.joined_nodes import JoinedNode
from tests.local.shared import Shared
from tests.s3 import S3Server

BESIDE = "local"


@dataclass
class Hosts:
    """A system and the nodes that joined it.

    Attributes:
        mains: stage → the base URLs of its main nodes.
    """

    client: Client
    stages: Sequence[Stage]
    mains: Mapping[str, Sequence[str]]

    def nodes(self, stage: Stage, deployment: str) -> Sequence[str]:
        """Each of them answers for every deployment of its stage."""
        assert deployment
        return self.mains[stage.name]


@pytest.fixture
def credentials(s3: S3Server, tmp_path: Path) -> Path:
    """The account of the S3 server in a folder, as the deployer is told of it; nodes have their host's own settings."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "access-key-id").write_text(s3.access)
    (folder / "secret-access-key").write_text(s3.secret)
    return folder


@contextmanager
def joined(client: Client, places: Mapping[str, Sequence[str]], folder: Path) -> Iterator[dict[str, list[str]]]:
    """Nodes of these roles join each infrastructure, and leave it at the end; gives infrastructure → URLs of its main nodes."""
    nodes: dict[str, list[JoinedNode]] = {
        place: [JoinedNode(folder / f"{place}-{number}", client, role) for number, role in enumerate(roles)]
        for place, roles in places.items()
    }
    everybody = [(place, node) for place, found in nodes.items() for node in found]
    for place, node in everybody:
        node.start(client.create_join_token({"infrastructure": place, "role": node.role})["token"])
    for _, node in everybody:
        node.wait_up()
    try:
        yield {place: [node.url for node in found if node.role == "main"] for place, found in nodes.items()}
    finally:
        for _, node in everybody:
            node.end()
        ended = {node.stop() for _, node in everybody}
    assert ended == {0}


@pytest.mark.parametrize(
    ("where", "roles"),
    [("local", (None, ["main"], ["main"])), ("static", (["main", "challenger"], ["main"], ["main", "main"]))],
)
def test_the_whole_life(
    shared: Shared, s3: S3Server, credentials: Path, tmp_path: Path, where: str, roles: Sequence[Sequence[str] | None]
) -> None:
    """What is tried on the processes of `quarterdeck up`, or on hosts of one's own, comes to production from bucket to bucket."""
    client = shared.client
    names = [f"{where}-{stage}" for stage in ("dev", "staging", "prod")]
    # What `quarterdeck up` runs has the system's own store; every other place gets a bucket.
    places = {name: list(found) for name, found in zip(names, roles, strict=True) if found is not None}
    stores = {name: s3.url(s3.bucket()) if name in places else shared.storage.url for name in names}
    for name in places:
        settings = {"s3Folder": str(credentials)}
        client.put_infrastructure(name, {"kind": "static", "store": stores[name], "settings": settings})
    set_stages(client, names, [name if name in places else BESIDE for name in names])
    stages = [Stage(name, open_storage(store)) for name, store in stores.items()]
    with joined(client, places, tmp_path) as mains:
        nodes = {name: mains.get(name, [shared.system.main_url]) for name in names}
        life = Life(Hosts(client, stages, nodes), f"life-{where}", tmp_path)
        life.live()
    print(life.table(where))
