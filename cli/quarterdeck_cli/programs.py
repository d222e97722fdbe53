"""The five programs of a local system and what each is told."""

from __future__ import annotations

from collections.abc import Mapping

from quarterdeck.client import TOKEN
from quarterdeck_cli.children import Program
from quarterdeck_cli.home import MIRROR_TOKEN, NODE_TOKEN, Home
from quarterdeck_cli.ports import HOST, Ports

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
        *_node(home, ports, "main", ports.main, ship_seconds),
        *_node(home, ports, "challenger", ports.challenger, ship_seconds),
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


def _node(home: Home, ports: Ports, name: str, port: int, ship_seconds: float) -> list[Program]:
    folder = home.folder / name
    environ = _variables(
        {
            "NODE": name,
            "ROLE": name,
            "HOST": HOST,
            "PORT": str(port),
            "FOLDER": str(folder),
            "PLAN_SERVER": f"http://{HOST}:{ports.deployer}",
            "NODE_TOKEN_FILE": str(home.folder / NODE_TOKEN),
            "SHIP_SECONDS": str(ship_seconds),
            # Callers ask main: a port that the terminal's variables name is main's, and two could not share it.
            **({} if name == "main" else {"GRPC_PORT": "0"}),
        }
    )
    # Both read one set of variables and share the folder; neither knows more of the other than its socket.
    agent = name + AGENT
    return [
        # A node asks for its plan at once; before the deployer answers it could only log that nobody is there.
        Program(
            name,
            "quarterdeck_node",
            folder,
            home.log(name),
            environ,
            stage=0,
            health=f"http://{HOST}:{port}/live",
            after=DEPLOYER,
        ),
        Program(agent, "quarterdeck_node.agent", folder, home.log(agent), environ, stage=1),
    ]


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"QUARTERDECK_{name}": value for name, value in settings.items()}
