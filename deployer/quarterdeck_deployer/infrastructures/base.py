"""What every infrastructure can do for the deployer, whatever runs the models there."""

from __future__ import annotations

import asyncio
from typing import Literal, NamedTuple, Protocol

from quarterdeck.plan import Role
from quarterdeck.storage import Storage
from quarterdeck_deployer.deployments import Living
from quarterdeck_deployer.observed import ObservedDeployment

Kind = Literal["local", "static", "kubernetes"]
LOCAL = "local"
"""Name of the infrastructure that every instance has: the nodes beside the deployer itself."""


class Urls(NamedTuple):
    """Where a deployment is reached; empty where nothing answers for it.

    Attributes:
        main: base URL that callers use.
        challenger: base URL of a node of the challenger, as the deployer reaches it.
        mains: base URLs of all that answer callers, `main` among them.
    """

    main: str
    challenger: str
    mains: tuple[str, ...]


class Records(NamedTuple):
    """Where the records of one deployment lie: the store, and the data set's name in it."""

    storage: Storage
    dataset: str


class Counts(NamedTuple):
    """How often an infrastructure's loop has run and failed in this process."""

    steps: int = 0
    failures: int = 0


class Reading(NamedTuple):
    """What one node (or pod) says of itself now.

    Attributes:
        url: base URL by which others reach it; empty where nobody does.
        age: seconds since it was heard of; None: never.
        sequence: the plan that it has taken over.
        boot: names its process; `cpu_seconds` counts from the beginning of that.
        rss_bytes: memory of its processes, models among them.
    """

    node: str
    role: Role
    url: str
    live: bool
    ready: bool
    age: float | None
    sequence: int
    boot: str
    rss_bytes: int
    cpu_seconds: float


class Infrastructure(Protocol):
    """One place where deployments run. Each has a loop of its own: one that hangs holds up no other."""

    @property
    def name(self) -> str:
        """As stages name it."""
        ...

    @property
    def kind(self) -> Kind:
        """What it is made of."""
        ...

    @property
    def store(self) -> str:
        """URL of the packages and records of what runs there."""
        ...

    @property
    def counts(self) -> Counts:
        """What its loop has done in this process."""
        ...

    @property
    def next_step(self) -> asyncio.Event:
        """Set at the end of the next step. Take it before looking, so that nothing falls between the look and the wait."""
        ...

    async def run(self) -> None:
        """Bring about what is wished, again and again; until cancelled."""
        ...

    def wake(self) -> None:
        """Ask for a step soon; from any thread, any number of times."""
        ...

    def release(self) -> None:
        """Let everybody go who waits for a step, because the program ends."""
        ...

    def observe(self, one: Living) -> ObservedDeployment:
        """What is so of a deployment that has just been read."""
        ...

    def refused(self, name: str) -> bool:
        """Whether something that runs has refused a version that this deployment wants."""
        ...

    def holders(self, name: str) -> list[str]:
        """Who still holds a deployment, by name, each as a person would call it: `node main`."""
        ...

    def readings(self) -> list[Reading]:
        """Every node that there should be, by name, live or not."""
        ...

    def urls(self, name: str) -> Urls:
        """Where a deployment is reached."""
        ...
