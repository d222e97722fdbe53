"""Fixtures of the tests that run the whole system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from quarterdeck.storage import open_storage
from tests.local.shared import Shared
from tests.local.system import LocalSystem
from tests.s3 import s3, s3_server
from tests.support import free_port

__all__ = ["s3", "s3_server", "shared", "system"]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[LocalSystem]:
    """A system of its own for one test, in a folder that was empty."""
    with LocalSystem(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The one system of all tests that need none for themselves; they leave it as healthy as they found it."""
    port = free_port()
    # Each scrape is made anew: tests ask for what they have just changed.
    environ = {"QUARTERDECK_METRICS_SECONDS": "0", "QUARTERDECK_GRPC_PORT": str(port)}
    with (
        LocalSystem(tmp_path_factory.mktemp("shared"), ship_seconds=0.2, environ=environ) as started,
        started.client() as client,
        httpx.Client(base_url=started.main_url, trust_env=False, timeout=30) as http,
    ):
        yield Shared(started, client, http, open_storage(client.instance()["store"]), grpc=f"127.0.0.1:{port}")
