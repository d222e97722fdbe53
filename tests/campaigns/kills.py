"""kill -9 of serve, agent, deployer and supervisor under load: nothing that was acknowledged is lost.

    python -m tests.campaigns.kills --count 50

The ledger: every acknowledged prediction's rows are in the store's Parquet, and a row that lies there twice (delivery is at
least once) says the same twice; every acknowledged action is a revision of the API with the content that was asked for.
Exit status 1 on any miss.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet

from quarterdeck.client import Client
from quarterdeck.errors import NotReady, QuarterdeckError
from quarterdeck.plan import VersionRef
from quarterdeck.records import row_id
from quarterdeck.storage.keys import records_prefix
from tests.campaigns.load import Load, Tally
from tests.local.system import LocalSystem
from tests.models import version_encoding_model
from tests.support import eventually, free_ports

NAME = "versions"
CHILDREN = {"serve": "main", "agent": "main-agent", "deployer": "deployer"}
TARGETS = (*CHILDREN, "supervisor")
CONNECTIONS = 4
ROWS = 3
MINUTES = 60
_LOAD_SECONDS = 0.5
_ACTION_PAUSE = 0.05


@dataclass
class Ledger:
    """What was acknowledged and what was found; `misses` must be empty."""

    kills: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    actions: dict[int, str] = field(default_factory=dict)
    actions_unanswered: int = 0
    stored_rows: int = 0
    duplicates: int = 0
    misses: list[str] = field(default_factory=list)

    def figures(self) -> str:
        """The figures, one a line."""
        lines = [
            f"kill -9 of {name:<14} {self.kills[name]} times, answers again after at most {max(times):.2f} s"
            for name, times in self.recovery.items()
        ]
        rows = len(self.tally.answers) * ROWS
        return "\n".join(
            [
                *lines,
                f"predictions acknowledged  {len(self.tally.answers)} requests, {rows} rows",
                f"connections cut           {self.tally.unanswered.total()} requests {dict(self.tally.unanswered)}",
                f"refused while starting    {dict(self.tally.refused)}",
                f"rows in the store         {self.stored_rows}, of them delivered again {self.duplicates}",
                f"actions acknowledged      {len(self.actions)}, without an answer {self.actions_unanswered}",
                f"misses                    {len(self.misses)}",
            ]
        )


class Actions:
    """A thread that changes the deployment's description again and again, and remembers which changes were acknowledged."""

    def __init__(self, url: str, token: str, main: VersionRef, ledger: Ledger) -> None:
        self._url, self._token, self._ledger = url, token, ledger
        self._body: dict[str, Any] = {"main": {"model": main.model, "version": main.version}, "access": "public"}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._act_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _act_on(self) -> None:
        number = 0
        with Client(self._url, self._token) as client:
            while not self._over.wait(_ACTION_PAUSE):
                number += 1
                wanted = f"change {number}"
                try:
                    done = client.put_deployment(NAME, {**self._body, "description": wanted})
                    self._ledger.actions[done["revision"]] = wanted
                except NotReady:
                    self._ledger.actions_unanswered += 1
                except QuarterdeckError as error:
                    self._ledger.misses.append(f"an action was refused: {error.code}: {error.detail}")


def run(folder: Path, count: int) -> Ledger:
    """Kill each target `count` times under load, then compare the ledger with the store and the API."""
    ledger = Ledger()
    # Fixed ports: a system that is started again must be found where it was.
    system = LocalSystem(folder, port=free_ports(3)).start()
    try:
        main = system.publish(version_encoding_model(1, name=NAME))
        system.deploy(NAME, main)
        token = (system.home.folder / "token").read_text()
        with Load(system.main_url, NAME, CONNECTIONS, ROWS) as load, Actions(system.note.urls["console"], token, main, ledger):
            _kill_all(system, load, ledger, count)
        ledger.tally = load.total()
        with system.client() as client:
            revisions = {each["number"]: each["description"] for each in client.revisions(NAME)}
    finally:
        system.stop()
    ledger.misses += ledger.tally.wrong
    ledger.misses += [
        f"revision {number} is not {wanted!r}" for number, wanted in ledger.actions.items() if revisions.get(number) != wanted
    ]
    _compare_with_store(system.home.folder / "store", ledger)
    return ledger


def _kill_all(system: LocalSystem, load: Load, ledger: Ledger, count: int) -> None:
    deadline = time.monotonic() + 60 * MINUTES
    for number in range(count * len(TARGETS)):
        if time.monotonic() > deadline:
            ledger.misses.append(f"only {number} kills in {MINUTES} minutes")
            return
        target = TARGETS[number % len(TARGETS)]
        _wait_for_answers(load)
        start = time.monotonic()
        if target == "supervisor":
            system.kill()
            system.start()
        else:
            system.kill_child(CHILDREN[target])
        ledger.kills[target] += 1
        ledger.recovery.setdefault(target, []).append(time.monotonic() - start)


def _wait_for_answers(load: Load) -> None:
    """Let load flow for a moment, so that each kill meets requests and records on their way."""
    before = sum(len(tally.answers) for tally in load.tallies)
    time.sleep(_LOAD_SECONDS)
    eventually(lambda: sum(len(tally.answers) for tally in load.tallies) > before, 60)


def _compare_with_store(store: Path, ledger: Ledger) -> None:
    files = sorted((store / records_prefix(NAME, "main")).rglob("*.parquet"))
    stored: dict[str, tuple[int, str]] = {}
    for file in files:
        table = pyarrow.parquet.ParquetFile(file).read(columns=["row_id", "version", "prediction"])
        for found in table.to_pylist():
            said = (found["version"], found["prediction"])
            ledger.stored_rows += 1
            ledger.duplicates += found["row_id"] in stored
            if stored.setdefault(found["row_id"], said) != said:
                ledger.misses.append(f"row {found['row_id']} lies in the store twice and differs")
    wanted = [row_id(answer.request_id, row) for answer in ledger.tally.answers for row in range(ROWS)]
    lost = [each for each in wanted if each not in stored]
    ledger.misses += [f"row {each} was acknowledged and is not in the store" for each in lost]
    if not wanted or not ledger.actions:
        ledger.misses.append("nothing was acknowledged")


def main() -> int:
    """Run it, print the figures; 1 on any miss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="how often each target is killed")
    with tempfile.TemporaryDirectory() as folder:
        ledger = run(Path(folder), parser.parse_args().count)
    print(ledger.figures())
    print("\n".join(ledger.misses[:20]), file=sys.stderr)
    return 1 if ledger.misses else 0


if __name__ == "__main__":
    sys.exit(main())
