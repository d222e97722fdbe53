"""How the deployer ends: what its loops have in hand is done before the database is closed under their feet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.storage import open_storage
from quarterdeck_deployer import usage
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.settings import Settings
from tests.deployer_world import TOKENS, laid_out

LOOPS: dict[str, tuple[Callable[[Deployer], Any], str]] = {
    "nodes are told what is decided": (lambda deployer: deployer.local.reconciler, "step"),
    "actions are ended": (lambda deployer: deployer.settler, "settle"),
    "usage is kept": (lambda deployer: deployer.usage, "sample"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_the_database_is_closed_after_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    """A step that runs while the program ends is waited for: a thread cannot be cancelled."""
    monkeypatch.setattr(usage, "SAMPLE_SECONDS", 0)
    settings = laid_out(Settings(data=tmp_path, store=f"memory://{tmp_path}"))
    deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
    place, name = LOOPS[loop]
    begun, go, order = threading.Event(), threading.Event(), []
    step, close = getattr(place(deployer), name), deployer.database.close

    def slow() -> Any:
        begun.set()
        go.wait(60)
        done = step()
        order.append("step")
        return done

    def closed() -> None:
        order.append("closed")
        close()

    monkeypatch.setattr(place(deployer), name, slow)
    monkeypatch.setattr(deployer.database, "close", closed)

    async def life() -> None:
        async with deployer.running():
            await asyncio.to_thread(begun.wait, 60)
            # While it ends: whoever does not wait for the step has closed by then.
            asyncio.get_running_loop().call_later(0.2, go.set)

    asyncio.run(life())
    assert order == ["step", "closed"]
