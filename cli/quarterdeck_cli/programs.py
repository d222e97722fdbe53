"""The five programs of a local system, the two of a node that joined one elsewhere, and what each is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from quarterdeck.client import TOKEN
from quarterdeck_cli.children import Program
from quarterdeck_cli.home import MIRROR_TOKEN, NODE_TOKEN, Home
from quarterdeck_cli.ports import EVERY_HOST, HOST, Ports

AGENT = "-agent"
DEPLOYER = "deployer"


def urls(ports: Ports, token: str) -> dict[str, str]:
    """Where people and programs find the parts. `login` carries the admin token and is for the terminal only."""
    deployer, main, challenger = (f"http://{HOST}:{port}" for port in ports)
    return {
        "console": deployer,
        "login": f"{deployer}/login?token={token}",
        "deployer_docs": f"{deployer}/docs",
        "main": main,
        "main_docs": f"{main}/docs",
        "challenger": challenger,
    }


def programs(home: Home, ports: Ports, store: str, ship_seconds: float) -> list[Program]:
    """Deployer, two serving nodes, and an agent beside each of them."""
    return [
        _deployer(home, ports, store),
        *node(home, _beside(home, ports, "main", ports.main), ship_seconds),
        *node(home, _beside(home, ports, "challenger", ports.challenger), ship_seconds),
    ]


def _deployer(home: Home, ports: Ports, store: str) -> Program:
    base = f"http://{HOST}:{ports.deployer}"
    environ = {
        "DATA": str(home.folder),
        "NAME": "local",
        "HOST": HOST,
        "PORT": str(ports.deployer),
        "STORE": store,
        "MAIN_URL": f"http://{HOST}:{ports.main}",
        "CHALLENGER_URL": f"http://{HOST}:{ports.challenger}",
        # The nodes run code of allowed packages as this very user already.
        "GATES_RUN_CODE": "true",
        # Secrets go by file: environments and command lines are for others to read.
        "TOKEN_FILE": str(home.folder / TOKEN),
        "NODE_TOKEN_FILE": str(home.folder / NODE_TOKEN),
        "MIRROR_TOKEN_FILE": str(home.folder / MIRROR_TOKEN),
    }
    return Program(
        DEPLOYER,
        "quarterdeck_deployer",
        home.place,
        home.log(DEPLOYER),
        _variables(environ),
        stage=2,
        health=f"{base}/health",
    )


class NodePlace(NamedTuple):
    """Where one node is: its own folder (`folder`), where it listens, whom it asks for its plan and with what.

    `url` is the base URL that callers and other nodes reach it by; `after` names the program that must answer before it starts.
    """

    name: str
    role: str
    folder: Path
    host: str
    port: int
    url: str
    deployer: str
    token_file: Path
    after: str = ""


def _beside(home: Home, ports: Ports, name: str, port: int) -> NodePlace:
    url, deployer = f"http://{HOST}:{port}", f"http://{HOST}:{ports.deployer}"
    return NodePlace(name, name, home.folder / name, HOST, port, url, deployer, home.folder / NODE_TOKEN, after=DEPLOYER)


def node(home: Home, place: NodePlace, ship_seconds: float) -> list[Program]:
    """A serving node and the agent beside it; their logs lie in the home's folder, named after the node's own folder."""
    environ = _variables(
        {
            "NODE": place.name,
            "ROLE": place.role,
            "HOST": place.host,
            "PORT": str(place.port),
            "URL": place.url,
            "FOLDER": str(place.folder),
            "PLAN_SERVER": place.deployer,
            "NODE_TOKEN_FILE": str(place.token_file),
            "SHIP_SECONDS": str(ship_seconds),
            # Callers ask main: a port that the terminal's variables name is main's, and two could not share it.
            **({} if place.role == "main" else {"GRPC_PORT": "0"}),
        }
    )
    # Asked at the loopback address where every address is listened on.
    health = f"http://{HOST if place.host in EVERY_HOST else place.host}:{place.port}/live"
    # Both read one set of variables and share the folder; neither knows more of the other than its socket.
    name, agent = place.folder.name, place.folder.name + AGENT
    return [
        # A node asks for its plan at once; before the deployer answers it could only log that nobody is there.
        Program(name, "quarterdeck_node", place.folder, home.log(name), environ, stage=0, health=health, after=place.after),
        Program(agent, "quarterdeck_node.agent", place.folder, home.log(agent), environ, stage=1),
    ]


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"QUARTERDECK_{name}": value for name, value in settings.items()}
