"""The same behaviour in memory and against a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apiserver import ApiServer, api_server
from tests.reconcile.hands import RealHand, TwinHand
from tests.reconcile.world import World

__all__ = ["api_server"]


@pytest.fixture(params=["twin", "kube-apiserver"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """An empty namespace with an operator."""
    if request.param == "twin":
        yield World(TwinHand())
        return
    server: ApiServer = request.getfixturevalue("api_server")
    hand = RealHand(server)
    yield World(hand)
    hand.close()
