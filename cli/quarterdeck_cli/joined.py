"""`quarterdeck node join`: a node of a system that is elsewhere, kept up by a supervisor of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from quarterdeck.client import Client
from quarterdeck.errors import QuarterdeckError, Unauthenticated
from quarterdeck_cli import ports, processes
from quarterdeck_cli.errors import NotStarted
from quarterdeck_cli.home import NODE_TOKEN, Home, Note
from quarterdeck_cli.programs import NodePlace, node
from quarterdeck_cli.start import clear_leftovers
from quarterdeck_cli.supervisor import Supervisor, Told

MEMBERSHIP, FOLDER, REVOKED = "node.json", "node", "node-revoked"
TOKEN_VARIABLE = "QUARTERDECK_JOIN_TOKEN"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# No plan has such a number, so the server has nothing to answer but whether the token is good.
_NEVER = 2**62


class Wanted(NamedTuple):
    """What the user asks for.

    Attributes:
        deployer: base URL of the system to join.
        token: join token; empty where the folder holds what an earlier one was exchanged for.
        url: base URL of this node, as callers and other nodes reach it.
        name: of the node; empty: the deployer makes one up.
        host: address to listen on; empty: loopback where `url` is, else every address.
        port: to listen on; 0: the one of `url`.
        ship_seconds: longest wait of a record.
    """

    deployer: str
    token: str
    url: str
    name: str
    host: str
    port: int
    ship_seconds: float


class Membership(NamedTuple):
    """What a folder holds of its node; its token lies beside it, in a file of its own."""

    node: str
    role: str
    infrastructure: str
    url: str
    store: str


class NodeHome(Home):
    """The folder of one node that joined: lock, note, logs, membership, token, and the node's own folder."""

    def __init__(self, place: Path) -> None:
        super().__init__(place, "")

    def membership(self) -> Membership | None:
        """What the last joining brought; None where there was none."""
        try:
            return Membership(**json.loads((self.folder / MEMBERSHIP).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def token(self) -> str:
        """The node's own token."""
        return (self.folder / NODE_TOKEN).read_text().strip()

    def keep(self, membership: Membership, token: str) -> None:
        """Write down what joining brought."""
        # The token first: a membership without one would look like a node that can start.
        self.write(NODE_TOKEN, token.encode())
        self.write(MEMBERSHIP, json.dumps(membership._asdict(), indent=1).encode())


def join(home: NodeHome, wanted: Wanted, told: Told, ready: Callable[[Note, Membership], None]) -> None:
    """Join where that is still to be done, then run the node until it is told to stop.

    Raises:
        NotStarted: another supervisor, the port, or a missing token is in the way; nothing was started.
        QuarterdeckError: the deployer refuses the join token, or does not answer.
        StartFailed: a program does not come up; everything has been stopped again.
    """
    home.take()
    undo = True
    try:
        clear_leftovers(home)
        host, port = _listens(wanted)
        ports.require_free(host, port)
        membership = _membership(home, wanted, told)
        # From here on there is something worth keeping, whatever happens.
        undo = False
        for name in ("logs", FOLDER):
            (home.folder / name).mkdir(exist_ok=True)
        deployer = wanted.deployer.rstrip("/")
        place = NodePlace(
            membership.node, membership.role, home.folder / FOLDER, host, port, membership.url, deployer, home.folder / NODE_TOKEN
        )
        me = processes.identify(os.getpid())
        assert me is not None, "this process lives"
        note = Note(me, {FOLDER: port}, {"console": deployer, FOLDER: membership.url}, membership.store)
        Supervisor(home, node(home, place, wanted.ship_seconds), note, told).run(lambda: ready(note, membership))
    finally:
        home.release(undo=undo)


def _membership(home: NodeHome, wanted: Wanted, told: Told) -> Membership:
    """What the folder holds where that is still good, else what the join token is exchanged for."""
    found = home.membership()
    if found is not None and _welcome(wanted, found.node, home.token):
        if found.url != wanted.url.rstrip("/") or wanted.name not in ("", found.node):
            raise NotStarted(
                f"This folder is that of the node {found.node} at {found.url}.",
                code="node-joined",
                kind="node",
                name=found.node,
                hint="Start it with the same --url and --name, or revoke it and join anew.",
            )
        if wanted.token:
            told.happened(f"this folder is that of the node {found.node} already; the join token was not used")
        return found
    if not wanted.token:
        raise NotStarted(
            "A node joins with a join token, and none was given." if found is None else f"The node {found.node} was revoked.",
            code="join-token-missing",
            kind="node",
            hint=f"Make one with `quarterdeck node token create` and give it with --token or {TOKEN_VARIABLE}.",
        )
    with Client(wanted.deployer) as client:
        joined = client.join_node({"token": wanted.token, "url": wanted.url, "name": wanted.name or None})
    made = Membership(joined["node"], joined["role"], joined["infrastructure"], wanted.url.rstrip("/"), joined["store"])
    home.keep(made, joined["token"])
    return made


def _welcome(wanted: Wanted, name: str, token: str) -> bool:
    """Whether the node may go on with what its folder holds; a deployer that is away does not keep it from serving."""
    try:
        with Client(wanted.deployer, token) as client:
            client.call("GET", f"/plans/{name}", after=_NEVER)
    except Unauthenticated as error:
        # A deployer that was set back to an older database knows nobody who came since: that is no reason to stop.
        return error.code != REVOKED and not wanted.token
    except QuarterdeckError:
        return True
    return True


def _listens(wanted: Wanted) -> tuple[str, int]:
    """Address and port to listen on."""
    try:
        url = urlsplit(wanted.url)
        port = wanted.port or url.port or 0
    except ValueError:
        url, port = urlsplit(""), 0
    if url.scheme not in ("http", "https") or not url.hostname or not port:
        raise NotStarted(
            "The node's own address cannot be used.",
            code="url-refused",
            kind="node",
            hint="Give it as --url http://HOST:PORT, as callers reach it; --port says where to listen where that is another one.",
        )
    return wanted.host or (ports.HOST if url.hostname in _LOOPBACK else ports.EVERY_HOST[0]), port
