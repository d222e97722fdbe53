"""Writes everything that is made from the code anew: `make generate`. Tests compare it."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import ROOT
from tools import chart, crds, protocol
from tools.reference import cli, console, errors, grpc, http, metrics, packages, pipelines, settings

REFERENCE = ROOT / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings.page,
    "http-node.md": http.node_page,
    "grpc-node.md": grpc.page,
    "http-deployer.md": http.deployer_page,
    "console.md": console.page,
    "metrics.md": metrics.page,
    "errors.md": errors.page,
    "cli.md": cli.page,
    "package-manifest.md": packages.manifest_page,
    "resources.md": packages.resources_page,
    "store-layout.md": packages.store_page,
    "pipelines.md": pipelines.page,
}
NOTE = "<!-- Made by `make generate` from the code. -->\n"


def render(name: str) -> str:
    """One page as it must be."""
    return NOTE + PAGES[name]()


def main() -> None:
    """Write all pages, what protoc makes, the definition of the resource, and the chart's values."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (REFERENCE / name).write_text(render(name), encoding="utf-8")
        print(f"docs/reference/{name}")
    protocol.write()
    crds.write()
    chart.write()


if __name__ == "__main__":
    main()
