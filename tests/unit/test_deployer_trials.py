"""Versions on trial share a cache, and neither takes the other's away."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_deployer import trials
from quarterdeck_deployer.trials import Trials
from tests.promotion_world import ROWS, built


def test_what_is_on_trial_stays_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little room there is: another trial that ends meanwhile makes none of what this one may still read."""
    monkeypatch.setattr(trials, "CACHE_BYTES", 1)
    store, held = MemoryStorage(), Trials(tmp_path, allow_code=False)
    first, second = (built(version).push(store, version) for version in (1, 2))
    folder = tmp_path / first.digest.removeprefix("sha256:")
    with held.loaded(store, first) as one:
        with held.loaded(store, second) as other:
            assert len(other.model.predict(ROWS)) == len(ROWS)
        assert (folder / "manifest.json").is_file()
        assert len(one.model.predict(ROWS)) == len(ROWS)
    with held.loaded(store, second):
        pass
    assert not folder.exists()
