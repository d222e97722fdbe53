"""The infrastructures of an instance as running objects: made from their rows, found by name, deployment or node."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select

from quarterdeck.errors import NotFound
from quarterdeck.plan import VersionRef
from quarterdeck.storage import S3Files, Storage, open_storage
from quarterdeck.storage.keys import dataset_name, manifest_key
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Living
from quarterdeck_deployer.infrastructures.base import LOCAL, Infrastructure, Kind, Records
from quarterdeck_deployer.infrastructures.by_nodes import ByNodes
from quarterdeck_deployer.infrastructures.scope import infrastructure_of
from quarterdeck_deployer.models import InfrastructureRow
from quarterdeck_deployer.nodes import no_such_node


@dataclass(frozen=True, slots=True)
class Facts:
    """What an infrastructure is made from: its row, apart from the session that read it."""

    name: str
    kind: Kind
    store: str
    settings: dict[str, Any]

    @property
    def s3_files(self) -> S3Files:
        """Where credentials and authority of its S3 server lie, on the deployer's host."""
        folder, ca = self.settings.get("s3Folder"), self.settings.get("s3Ca")
        return S3Files(Path(folder) if folder else None, Path(ca) if ca else None)


Maker = Callable[[Facts], Infrastructure]


class Infrastructures(Mapping[str, Infrastructure]):
    """Every infrastructure by name, each with its own loop. Read from any thread.

    Args:
        database: holds the rows, among them the local one.
        storage: the instance's own store, which is the local infrastructure's.
        makers: what makes each kind.
    """

    def __init__(self, database: Database, storage: Storage, makers: Mapping[Kind, Maker]) -> None:
        self._sessions, self._makers = database.sessions, makers
        self._refreshing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._facts: dict[str, Facts] = {}
        self._made: dict[str, Infrastructure] = {}
        self._stores: dict[str, Storage] = {LOCAL: storage}
        self._placed: dict[str, str] = {}
        self.refresh()

    def __getitem__(self, name: str) -> Infrastructure:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def named(self, name: str) -> Infrastructure:
        """The one with this name.

        Raises:
            NotFound: no such infrastructure.
        """
        found = self._made.get(name)
        if found is None:
            raise no_such_infrastructure(name, self._made)
        return found

    def of(self, one: Living) -> Infrastructure:
        """The one that a deployment's stage is on."""
        return self.named(self.placed(one.wish.stage))

    def placed(self, stage: str) -> str:
        """The name of the infrastructure that a stage is on."""
        return self._placed.get(stage, LOCAL)

    def of_node(self, node: str) -> ByNodes:
        """The one that a node belongs to.

        Raises:
            NotFound: no such node.
        """
        ours = [found for found in self._made.values() if isinstance(found, ByNodes)]
        for found in ours:
            if node in found.nodes.members:
                return found
        raise no_such_node(known for found in ours for known in found.nodes.members)

    def storage(self, name: str) -> Storage:
        """The store of one of them.

        Raises:
            NotFound: no such infrastructure.
            InvalidInput, StorageError: its store cannot be used.
        """
        store = self._stores.get(name)
        if store is None:
            self.named(name)
            facts = self._facts[name]
            # The instance's own store, with the credentials that the instance has for it.
            if facts.store == self._facts[LOCAL].store and not facts.s3_files.folder:
                return self._stores[LOCAL]
            # Opened when it is first asked for: a store that is away must not keep the others from running.
            store = self._stores[name] = open_storage(facts.store, facts.s3_files)
        return store

    def storage_of(self, stage: str) -> Storage:
        """The store of the infrastructure that a stage is on. Raises as `storage` does."""
        return self.storage(self.placed(stage))

    def storage_with(self, stage: str, ref: VersionRef) -> Storage:
        """The store of a stage where a version has come there; else the one where all are published. Raises as `storage` does."""
        own = self.storage_of(stage)
        return own if own.size(manifest_key(ref.model, ref.version)) is not None else self._stores[LOCAL]

    def apart(self, stage: str) -> bool:
        """Whether a stage has another store than the instance; asks no store."""
        return self._facts[self.placed(stage)].store != self._facts[LOCAL].store

    def other_storages(self) -> Iterator[Storage]:
        """The stores beside the instance's own, each once; opened as they are taken. Raises as `storage` does."""
        stores = {self._facts[LOCAL].store}
        for name, facts in list(self._facts.items()):
            if facts.store not in stores:
                stores.add(facts.store)
                yield self.storage(name)

    def records(self, one: Living) -> Records:
        """Where the records of a deployment lie. Raises as `storage` does."""
        name = self.placed(one.wish.stage)
        # Only clusters have namespaces, and a deployment of the same name in each.
        return Records(
            self.storage(name), dataset_name(one.wish.deployment, str(self._facts[name].settings.get("namespace", "")))
        )

    def refresh(self) -> None:
        """Look at the rows again: whoever has changed infrastructures, stages or their nodes calls this after its commit."""
        with self._refreshing:
            with self._sessions() as session:
                rows = session.scalars(select(InfrastructureRow).order_by(InfrastructureRow.name))
                facts = {row.name: Facts(row.name, cast(Kind, row.kind), row.store, row.settings) for row in rows}
                self._placed = infrastructure_of(session)
            same = {name for name, fact in facts.items() if self._facts.get(name) == fact}
            self._stores = {name: store for name, store in self._stores.items() if name == LOCAL or name in same}
            # Whatever is the same goes on: its nodes need not speak again before anything is decided.
            self._made = {
                name: self._made[name] if name in same else self._makers[fact.kind](fact) for name, fact in facts.items()
            }
            self._facts = facts
            for one in self._made.values():
                if one.name in same and isinstance(one, ByNodes):
                    one.refresh()
        self._tell()

    async def run(self) -> None:
        """Run the loops of all that there are, and of those that come; until cancelled."""
        self._loop = asyncio.get_running_loop()
        loops: dict[Infrastructure, asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                present = list(self._made.values())
                for gone in [one for one in loops if one not in present]:
                    await _end(gone, loops.pop(gone))
                for one in present:
                    if one not in loops:
                        loops[one] = asyncio.create_task(one.run(), name=f"infrastructure {one.name}")
                await self._changed.wait()
        finally:
            for one, loop in loops.items():
                await _end(one, loop)

    def wake(self) -> None:
        """Ask each of them for a step soon; from any thread."""
        for one in self._made.values():
            one.wake()

    def release(self) -> None:
        """Let everybody go who waits for a step, because the program ends."""
        for one in self._made.values():
            one.release()

    def next_steps(self) -> list[asyncio.Event]:
        """Each is set at the end of one's next step; take them before looking."""
        return [one.next_step for one in self._made.values()]

    def refused(self, name: str) -> bool:
        """Whether something that runs has refused a version that this deployment wants."""
        return any(one.refused(name) for one in self._made.values())

    def holders(self, name: str) -> list[str]:
        """Who still holds a deployment, wherever."""
        return [holder for one in self._made.values() for holder in one.holders(name)]

    def _tell(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)


async def any_of(events: list[asyncio.Event], seconds: float) -> None:
    """Wait until one of them is set, `seconds` at most."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def no_such_infrastructure(name: str, known: Iterable[str]) -> NotFound:
    """The refusal of a name that no infrastructure has."""
    return NotFound(
        f"There is no such infrastructure. There are: {', '.join(sorted(known))}.",
        kind="infrastructure",
        name=name,
        hint="Create it: `quarterdeck infrastructure put`.",
    )


async def _end(one: Infrastructure, loop: asyncio.Task[None]) -> None:
    # A step in its worker thread ends by itself; cancelling only stops the next one.
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    one.release()
