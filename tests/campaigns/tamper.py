"""One byte changed at every 1,000th offset of every file of a package, in the store and in the cache: all refused, all named.

    python -m tests.campaigns.tamper --step 1000

The packages are real ones of the sample of flights, in every form that a node loads without being told to trust code. A
changed store is fetched from, a changed cache is opened as a node opens it. Exit status 1 on any miss.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from quarterdeck.errors import PackageRefused
from quarterdeck.fetch import fetch_package
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.plan import VersionRef
from quarterdeck.storage import open_storage
from quarterdeck.storage.keys import blob_key, manifest_key
from quarterdeck_node.opening import open_version
from quarterdeck_node.runtimes import Budget
from tests.models import Kind, flight_model

STEP = 1000
CODES = {"digest-mismatch"}


@dataclass
class Line:
    """What was tried on one file in one place."""

    form: str
    place: str
    path: str
    size: int
    changed: int = 0
    refused: int = 0
    named: int = 0


@dataclass
class Outcome:
    """Everything that was tried; `misses` must be 0."""

    lines: list[Line] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """Bytes that were changed, one at a time."""
        return sum(line.changed for line in self.lines)

    @property
    def misses(self) -> int:
        """Changes that were not refused, or refused without naming the file."""
        return sum(line.changed - line.named for line in self.lines)

    def figures(self) -> str:
        """A table, and the sums."""
        head = f"{'form':14} {'place':6} {'file':26} {'bytes':>8} {'changed':>8} {'refused':>8} {'named':>6}"
        rows = [
            f"{line.form:14} {line.place:6} {line.path:26} {line.size:8} {line.changed:8} {line.refused:8} {line.named:6}"
            for line in self.lines
        ]
        refused = sum(line.refused for line in self.lines)
        return "\n".join([head, *rows, f"changed {self.changed}, refused {refused}, misses {self.misses}"])


class World:
    """One package, published to a folder store and fetched into a cache."""

    def __init__(self, folder: Path, form: Kind) -> None:
        folder.mkdir(parents=True)
        self.form = form
        self.store = folder / "store"
        self.storage = open_storage(self.store)
        self.ref = flight_model(form).package("late-flights", include_data=True).push(self.storage)
        self.folder = fetch_package(self.storage, self.ref, folder / "cache")
        self.fresh = folder / "fresh"
        self.manifest = Manifest.parse((self.folder / MANIFEST).read_bytes(), self.ref.digest)

    def places(self) -> Iterator[tuple[Line, Path, Callable[[], object]]]:
        """(what is tried, the file to change, how a node meets it)."""
        digests = {entry.path: entry.sha256 for entry in self.manifest.files}
        for path in [MANIFEST, *digests]:
            key = blob_key(digests[path]) if path in digests else manifest_key(self.ref.model, self.ref.version)
            for place, file, meet in (("store", self.store / key, self.fetch), ("cache", self.folder / path, self.open)):
                yield Line(self.form, place, path, file.stat().st_size), file, meet

    def fetch(self) -> None:
        """Fetch into an empty cache, as a node does that never saw the package."""
        shutil.rmtree(self.fresh, ignore_errors=True)
        fetch_package(self.storage, self.ref, self.fresh)

    def open(self) -> None:
        """Load and prove what lies in the cache, as a node does before it serves."""
        asyncio.run(_opened(self.ref, self.folder))


async def _opened(ref: VersionRef, folder: Path) -> None:
    resident = await open_version(ref, folder, Budget(batch_seconds=60.0))
    await resident.runtime.close()


def offsets(size: int, step: int) -> list[int]:
    """Every `step`-th offset from the first on, and the last one."""
    return sorted({*range(0, size, step), size - 1}) if size else []


def tamper(line: Line, file: Path, meet: Callable[[], object], step: int) -> None:
    """Change one byte at a time, meet it as a node does, and put it back."""
    good = file.read_bytes()
    try:
        for offset in offsets(len(good), step):
            # In place, as a bad disk or a hand would: the file keeps its size and its name.
            file.write_bytes(good[:offset] + bytes([good[offset] ^ 0xFF]) + good[offset + 1 :])
            line.changed += 1
            try:
                meet()
            except PackageRefused as refusal:
                line.refused += 1
                place = refusal.extra.get("place") or refusal.name
                line.named += place == line.path and refusal.code in CODES
    finally:
        file.write_bytes(good)


def run(folder: Path, step: int = STEP, forms: tuple[Kind, ...] = get_args(Kind)) -> Outcome:
    """Try everything on a package of each form; the untouched package must fetch and open before and after.

    Raises:
        PackageRefused: the untouched package was refused, so a refusal of a changed one would show nothing.
    """
    outcome = Outcome()
    for form in forms:
        world = World(folder / form, form)
        world.fetch()
        world.open()
        for line, file, meet in world.places():
            tamper(line, file, meet, step)
            outcome.lines.append(line)
        world.fetch()
        world.open()
    return outcome


def main() -> int:
    """Run the campaign and print its figures; 1 on any miss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=STEP, help="distance between two changed bytes")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), arguments.step)
    print(outcome.figures())
    print(f"every {arguments.step}th byte, {time.monotonic() - began:.1f} s")
    return 1 if outcome.misses or not outcome.changed else 0


if __name__ == "__main__":
    sys.exit(main())
