"""Small slices of the long campaigns, so that they are known to work and their promises are watched in every run."""

from __future__ import annotations

from pathlib import Path

from tests.campaigns import kills, swaps


def test_swaps_under_load_lose_nothing(tmp_path: Path) -> None:
    """Ten changes of main under load: every request is answered, and by whom it says."""
    outcome = swaps.run(tmp_path, 10)
    assert outcome.misses == []
    assert len(outcome.seconds) == 10


def test_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    """Each program killed once under load: every acknowledged row and action is found again."""
    ledger = kills.run(tmp_path, 1)
    assert ledger.misses == []
    assert set(ledger.kills) == set(kills.TARGETS)
