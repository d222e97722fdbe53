"""A server of the chart's own: what helm installs there belongs to the whole cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apiserver import ApiServer, running
from tests.chart.helm import helm
from tests.chart.releases import Release
from tests.support import eventually


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows nothing of Quarterdeck yet."""
    with running(tmp_path_factory.mktemp("chart")) as found:
        yield found


@pytest.fixture
def release(server: ApiServer) -> Iterator[Release]:
    """Not installed yet; what stays after an uninstall is taken away."""
    found = Release(server, server.namespace())
    yield found
    helm("uninstall", "quarterdeck", "--namespace", found.namespace, "--ignore-not-found", server=server)
    server.kubectl("delete", "crd", "modeldeployments.quarterdeck.dev", "--ignore-not-found")
    # Without its controller nothing empties a terminating definition but the server itself, and that takes a moment.
    eventually(lambda: "quarterdeck.dev" not in server.kubectl("get", "crd", "--output", "name"))
