"""Our own server: a real node, serve and agent, with an API key that is checked, records that are spooled, and metrics on."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from bench import processes
from bench.answers import ARROW
from bench.packages import Kind, Published, published
from bench.places import ROOT
from bench.servers import Cores, Running, Target, first_answer, run_folder, tail
from bench.work import Work
from quarterdeck.api_keys import format_key
from quarterdeck.plan import DeploymentPlan, Key, Plan

DEPLOYMENT = "bench"
NODE = "main"
STOP_SECONDS = 15.0
_DROPPED = re.compile(r"^quarterdeck_records_dropped_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Caller:
    """An API key as its owner has it, and as nodes know it."""

    secret: str = field(default_factory=lambda: format_key("bench000", secrets.token_urlsafe(32)), repr=False)

    @property
    def key(self) -> Key:
        """What stands in a keyring."""
        return Key(id="bench", sha256=sha256(self.secret.encode()).hexdigest(), project="default", scopes=["predict"])


@dataclass(frozen=True)
class NodeProcesses:
    """The two programs of one node."""

    serve: processes.Process
    agent: processes.Process

    def stop(self) -> None:
        """serve first, so that the agent ships the last records."""
        processes.stop([self.serve], STOP_SECONDS)
        processes.stop([self.agent], STOP_SECONDS)


def deployment(package: Published, **changes: Any) -> DeploymentPlan:
    """A deployment as it is by default: an instance-wide key is asked for, and records are spooled."""
    given: dict[str, Any] = {"role": "main", "revision": 1, "access": "instance", "records": "spooled", **changes}
    return DeploymentPlan(name=DEPLOYMENT, active=package.version, resident=[package.version], **given)


def plan(package: Published, caller: Caller) -> Plan:
    """The plan of a node with one deployment."""
    return Plan(node=NODE, sequence=1, store=package.store, deployments=[deployment(package)], keyring=[caller.key])


def start_node(folder: Path, port: int, *, core: int, agent_core: int, idle: bool = False, **settings: Any) -> NodeProcesses:
    """Start serve and agent in a folder; `settings` are those of serve, without their prefix.

    An agent on another core than serve's, and both programs with `idle`, take what the load generator leaves of that core: else
    the load, and so every figure, would suffer from a core that a deployment does not share with its callers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "quarterdeck_node.agent"]
    given: dict[str, Any] = {"folder": folder, "log": folder / "log", "variables": variables_of(port, **settings)}
    agent = processes.start(command, core=agent_core, idle=idle or agent_core != core, **given)
    return NodeProcesses(serve=start_serve(folder, port, core, idle, **settings), agent=agent)


def start_serve(folder: Path, port: int, core: int, idle: bool = False, **settings: Any) -> processes.Process:
    """Start serve alone, where its agent runs already."""
    command, variables = [sys.executable, "-m", "quarterdeck_node"], variables_of(port, **settings)
    return processes.start(command, core=core, folder=folder, log=folder / "log", variables=variables, idle=idle)


def variables_of(port: int, **settings: Any) -> dict[str, str]:
    """The environment variables of both programs."""
    told = {"node": NODE, "role": "main", "host": "127.0.0.1", "port": port, **settings}
    # A package that runs code finds its classes in this checkout.
    paths = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    # As users start it: with the bytecode of the first start at hand in the second, whatever this shell says.
    python = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""}
    return {f"QUARTERDECK_{name.upper()}": str(value) for name, value in told.items()} | python


def dropped_records(url: str) -> int:
    """How many answered rows a node has not written down, by its own metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        return round(sum(float(count) for count in _DROPPED.findall(answer.read().decode())))


_PLAIN = Target(f"/deployments/{DEPLOYMENT}/predict", "plain")
_OIP = Target(f"/v2/models/{DEPLOYMENT}/infer", "oip")
_ARROW = Target(f"/deployments/{DEPLOYMENT}/predict", "arrow", ARROW)


@dataclass(frozen=True)
class Quarterdeck:
    """Ours, at one door.

    Args:
        package: the model of `single` and `batch`.
        agent: which core the agent runs on; "server" lets it compete with serve.
        settings: of serve, as `start_node` takes them.
    """

    name: str
    targets: Mapping[Work, Target]
    package: Kind = "pipe"
    agent: Literal["load", "server"] = "load"
    settings: Mapping[str, Any] = field(default_factory=dict)
    constant: bool = False
    environment: str = ""
    # Two deployments on one node would be two models in its memory.
    single_model: bool = True

    def published(self, given: Work) -> Published:
        """The package that a work asks."""
        return published("booster" if given == "booster" else self.package)

    @contextmanager
    def started(self, given: Work, cores: Cores) -> Iterator[Running]:
        """See `bench.servers.Server.started`: both programs at once, in an empty folder with a plan.json.

        Raises:
            WrongAnswer, TimeoutError, ChildProcessError: it did not come up, or answers wrongly.
        """
        package, caller, port = self.published(given), Caller(), processes.free_port()
        with run_folder(self.name) as folder:
            (folder / "plan.json").write_bytes(plan(package, caller).model_dump_json().encode())
            began = time.monotonic()
            agent_core = cores.load if self.agent == "load" else cores.server
            node = start_node(folder, port, core=cores.server, agent_core=agent_core, **self.settings)
            url = f"http://127.0.0.1:{port}"
            try:
                first = Running(url, (node.serve.pid,), 0.0, key=caller.secret)
                first_answer(self, first, given, [node.serve, node.agent])
                seconds = time.monotonic() - began
                yield Running(url, (node.serve.pid,), seconds, (node.agent.pid,), caller.secret, lambda: dropped_records(url))
            except (TimeoutError, ChildProcessError) as error:
                raise type(error)(f"{error}; it said: {tail(folder / 'log')}") from None
            finally:
                node.stop()


OURS: Mapping[str, Quarterdeck] = {
    server.name: server
    for server in (
        Quarterdeck("quarterdeck", {"single": _PLAIN, "batch": _PLAIN, "booster": _PLAIN}),
        Quarterdeck("quarterdeck-oip", {"single": _OIP, "batch": _OIP}),
        Quarterdeck("quarterdeck-arrow", {"batch": _ARROW}),
        Quarterdeck("quarterdeck-skops", {"single": _PLAIN, "batch": _PLAIN}, package="pipe-skops"),
        Quarterdeck("quarterdeck-one-core", {"single": _PLAIN, "batch": _PLAIN}, agent="server"),
    )
}
"""Our own, by the name that tables use. `-skops`: the pipeline is not compiled; `-one-core`: the agent shares serve's core."""
