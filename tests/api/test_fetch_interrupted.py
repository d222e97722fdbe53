"""Fetching, interrupted at any place: by the store at every byte, and by death before every call to the file system."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.errors import StorageError
from quarterdeck.fetch import fetch_package
from quarterdeck.storage.memory import MemoryStorage
from tests.api.test_fetch import assert_whole, publish
from tests.support import ROOT


class Cutting(MemoryStorage):
    """A store whose streams break after so many bytes, one number per stream, until the numbers are used up."""

    def __init__(self, cuts: list[int], chunk: int) -> None:
        super().__init__()
        self.cuts = cuts
        self.chunk = chunk
        self.read = 0

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The bytes in chunks of one size, up to the cut."""
        data = self.get(key, start)
        until = self.cuts.pop(0) if self.cuts else len(data)
        for position in range(0, min(until, len(data)), self.chunk):
            piece = data[position : min(position + self.chunk, until)]
            self.read += len(piece)
            yield piece
        if until < len(data):
            raise StorageError("The line was cut.", code="unreachable")


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    chunk=st.integers(1, 3000),
    seed=st.integers(0, 1000),
)
def test_whatever_the_cuts_no_byte_is_read_twice(sizes: list[int], cuts: list[int], chunk: int, seed: int) -> None:
    """Each attempt goes on exactly where the one before ended, and the package is whole at last."""
    made = random.Random(seed)
    files = {f"file-{number}": made.randbytes(size) for number, size in enumerate(sizes)}
    storage = Cutting(list(cuts), chunk)
    ref = publish(storage, files)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for _ in range(len(cuts)):
            try:
                fetch_package(storage, ref, cache)
            except StorageError:
                assert [path.name for path in cache.iterdir()] == ["partial"]
        assert_whole(fetch_package(storage, ref, cache), files)
        assert storage.read == sum(len(data) for data in set(files.values()))
        assert list((cache / "partial").iterdir()) == []


def test_death_before_any_call_leaves_the_whole_package_or_none() -> None:
    """All calls, one after the other, in a process of its own: it forks, which a process with threads should not."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.fetch_crashes"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
