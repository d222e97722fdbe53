"""Fixtures of the tests that run the whole system."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from quarterdeck.storage import open_storage
from tests.local.shared import Shared
from tests.local.system import LocalSystem
from tests.s3 import s3, s3_server
from tests.support import free_port

__all__ = ["s3", "s3_server", "shared"]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The one system of all tests that need none for themselves; they leave it as healthy as they found it."""
    port = free_port()
    # Each scrape is made anew: tests ask for what they have just changed. Nobody is shed by a machine that is busy for a moment.
    environ = {"QUARTERDECK_METRICS_SECONDS": "0", "QUARTERDECK_QUEUE_SECONDS": "60", "QUARTERDECK_GRPC_PORT": str(port)}
    with (
        LocalSystem(tmp_path_factory.mktemp("shared"), ship_seconds=0.2, environ=environ) as started,
        started.client() as client,
        httpx.Client(base_url=started.main_url, trust_env=False, timeout=60) as http,
    ):
        yield Shared(started, client, http, open_storage(client.instance()["store"]), grpc=f"127.0.0.1:{port}")
