"""A slice of the campaign against tampering (`python -m tests.campaigns.tamper` is the whole of it)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.tamper import offsets, run
from tests.models import Kind


@pytest.mark.parametrize("form", ["compiled", "skops"])
def test_changed_bytes_are_refused_by_the_name_of_their_file(tmp_path: Path, form: Kind) -> None:
    """First, last and some bytes of every file and the manifest, in the store and in the cache."""
    outcome = run(tmp_path, 20_000, (form,))
    assert outcome.misses == 0, outcome.figures()
    assert {line.place for line in outcome.lines} == {"store", "cache"}
    assert all(line.changed >= 2 for line in outcome.lines)


def test_offsets_hold_the_first_and_the_last_byte() -> None:
    """The ends of a file are where mistakes are made."""
    assert [offsets(size, 1000) for size in (0, 1, 1000, 1001, 2500)] == [
        [], [0], [0, 999], [0, 1000], [0, 1000, 2000, 2499],
    ]  # fmt: skip
