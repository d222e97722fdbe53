"""A fetch that dies before each of its calls to the file system, for every call there is: nothing half is ever seen.

    python -m tests.campaigns.fetch_crashes

A child is forked for each n, fetches, and ends without any clean-up before its nth call. Afterwards the cache may show the
whole package or none, and a second fetch must bring it whole. Exit status 1 on any miss.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from quarterdeck import verify
from quarterdeck.fetch import PARTIAL, fetch_package
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage, open_storage
from tests.models import version_encoding_model

CALLS = {
    "open",
    "os.link",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.truncate",
    "os.utime",
    "fcntl.flock",
    "shutil.rmtree",
}
"""Audit events of the calls to die before. Writing into a file has none: cuts inside a file are in tests/api/test_fetch.py."""
DIED = 9


class Fetching:
    """One package in a store and a cache that is fetched into again and again."""

    def __init__(self, folder: Path) -> None:
        self.storage: Storage = open_storage(folder / "store")
        self.ref: VersionRef = version_encoding_model(1).push(self.storage)
        self.cache = folder / "cache"
        self.shown = self.cache / self.ref.digest.removeprefix("sha256:")

    def dies_before(self, call: int) -> bool:
        """Fetch in a child that dies before its nth call; False where it was done before it came to that."""
        child = os.fork()
        if child == 0:
            left = call

            def count(event: str, _arguments: tuple[object, ...]) -> None:
                nonlocal left
                if event in CALLS:
                    left -= 1
                    if left < 0:
                        os._exit(DIED)

            sys.addaudithook(count)
            fetch_package(self.storage, self.ref, self.cache)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == DIED

    def misses(self) -> list[str]:
        """What is wrong with the cache after a death, and after the fetch that follows it."""
        found = [f"{path.name} is to be seen" for path in self.cache.glob("*") if path.name not in (PARTIAL, self.shown.name)]
        if self.shown.exists():
            found += self._wrong("half a package is to be seen")
        fetch_package(self.storage, self.ref, self.cache)
        found += self._wrong("the next fetch did not bring the package")
        found += [f"{path.name} was left" for path in (self.cache / PARTIAL).iterdir() if path.suffix != ".part"]
        return found

    def _wrong(self, what: str) -> list[str]:
        try:
            verify.check_files(Manifest.parse((self.shown / MANIFEST).read_bytes(), self.ref.digest), self.shown)
        except Exception as error:
            return [f"{what}: {error}"]
        return []


def run(folder: Path, damaged: bool = False) -> tuple[int, list[str]]:
    """(calls that a fetch makes, misses). With `damaged`, each fetch finds a package with a changed file and replaces it."""
    fetching = Fetching(folder)
    misses: list[str] = []
    call = 0
    while True:
        shutil.rmtree(fetching.cache, ignore_errors=True)
        if damaged:
            (fetch_package(fetching.storage, fetching.ref, fetching.cache) / "model.txt").write_bytes(b"damaged")
        died = fetching.dies_before(call)
        # Before the first rename the damaged package is still there, as it was; it is replaced by the next fetch.
        if damaged and fetching.shown.exists() and (fetching.shown / "model.txt").read_bytes() == b"damaged":
            shutil.rmtree(fetching.shown)
        misses += [f"died before call {call}: {miss}" for miss in fetching.misses()]
        if not died:
            return call, misses
        call += 1


def main() -> int:
    """Run both kinds and print the figures; 1 on any miss."""
    wrong = 0
    for damaged in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            calls, misses = run(Path(folder), damaged)
        print(
            f"{'damaged' if damaged else 'empty':8} cache: died before each of {calls} calls, {len(misses)} misses",
            *misses,
            sep="\n",
        )
        wrong += len(misses) + (calls == 0)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
