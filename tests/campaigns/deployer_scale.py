"""Lists and details of a full deployer beside those of an empty one, in one run: how many times longer people wait.

    python -m tests.campaigns.deployer_scale --models 1000 --versions 20 --deployments 200

Each is a process of its own; both are filled past the API, straight into their databases, and asked in turn, so that whatever
else the machine does meets both. Lists show the first 100 rows, as they do where nobody asks for more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.plan import VersionRef
from quarterdeck.rollout import Record
from quarterdeck_deployer.audit import Act, Change, write
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import Action, ApiKey, Deployment, Model, Revision, Run, Version, VersionFile, VersionState
from quarterdeck_deployer.registry_rows import facts_of
from quarterdeck_deployer.revisions import Content, action_id
from quarterdeck_deployer.settings import Settings
from tests.campaigns.forked_deployer import ForkedDeployer
from tests.deployer_process import prepare
from tests.deployer_world import ADMIN, World, manifest, world

ROUTES = (
    "/api/models",
    "/api/models/{model}",
    "/api/models/{model}/versions",
    "/api/models/{model}/versions/1",
    "/api/deployments",
    "/api/deployments/{deployment}",
    "/api/deployments/{deployment}/revisions",
    "/api/actions",
    "/api/actions?deployment={deployment}",
    "/api/keys",
    "/api/audit",
    "/models",
    "/deployments",
    "/deployments/{deployment}",
)
"""What people look at: the API's lists and details, and the console's."""
_ROWS = 1_000


@dataclass(frozen=True)
class Size:
    """How much there is of each; `revisions` of each deployment."""

    models: int
    versions: int
    deployments: int
    revisions: int


EMPTY = Size(1, 1, 1, 1)
"""One of each, so that every route has something to show."""


@contextmanager
def filled(folder: Path, size: Size) -> Iterator[World]:
    """A deployer with so much in its database."""
    with world(folder) as here:
        fill(here.deployer.writing, size)
        yield here


@contextmanager
def asked(folder: Path, size: Size) -> Iterator[httpx.Client]:
    """The same as a process, and a client of it that sends the admin token."""
    prepare(folder)
    database = Database(Settings(data=folder).database_place)
    database.migrate()
    fill(database.writing, size)
    database.close()
    deployer = ForkedDeployer(folder)
    deployer.up()
    try:
        with httpx.Client(base_url=deployer.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60) as http:
            yield http
    finally:
        deployer.stop()


def fill(writing: sessionmaker[Session], size: Size) -> None:
    """Write so much into an empty database, past all services."""
    now = utc_now()
    models = [f"model-{number:04}" for number in range(size.models)]
    # One manifest for each number, whatever the model: reading one checks its digest and nothing else.
    packages = {number: manifest(salt=number) for number in range(1, size.versions + 1)}
    texts = {
        number: {
            "digest": package.digest,
            "manifest": package.canonical().decode(),
            "facts": facts_of(package).model_dump(mode="json"),
        }
        for number, package in packages.items()
    }
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in (Model, Run, Version, VersionState, VersionFile)}
    for model in models:
        rows[Model].append({"name": model, "description": "", "notes": "", "active_version": 1, "created": now})
        rows[Run].append({"id": f"run-{model}", "name": "run", "model": model, "metrics": {}, "parameters": {}, "created": now})
        for number, told in texts.items():
            version = {"model": model, "version": number}
            rows[Version].append({**version, **told, "run": f"run-{model}", "created": now})
            rows[VersionState].append({**version, "parent": None, "notes": "", "deprecated_why": ""})
            rows[VersionFile].append({**version, "sha256": "0" * 64})
    for number in range(size.deployments):
        for table, more in _deployment(f"deployment-{number:04}", models[number % len(models)], size.revisions).items():
            rows.setdefault(table, []).extend(more)
    rows[ApiKey] = [
        {"id": f"key{number:05}", "name": "caller", "project": "*", "sha256": f"{number:064x}", "scopes": [], "created": now}
        for number in range(size.deployments)
    ]
    with writing.begin() as session:
        for table, found in rows.items():
            for start in range(0, len(found), _ROWS):
                session.execute(insert(table), found[start : start + _ROWS])
        for number in range(size.deployments):
            write(session, Act("seed"), Change("create", f"deployment/deployment-{number:04}"))


def _deployment(name: str, model: str, revisions: int) -> dict[Any, list[dict[str, Any]]]:
    now = utc_now()
    refs = [VersionRef(model=model, version=1, digest=manifest(salt=1).digest)]
    content = Content(
        description="", project="default", main=refs[0], challenger=None, access="public", records="off", running=True
    ).model_dump(mode="json")
    record = Record(generation=revisions).model_dump(mode="json")
    told = {"deployment": name, "who": "seed", "why": "", "created": now}
    return {
        Deployment: [{"name": name, "revision": revisions, "record": record, "record_version": 0, "created": now}],
        Revision: [{**told, "number": one, "kind": "change", "content": content, "chosen": 1} for one in range(1, revisions + 1)],
        Action: [
            {**told, "id": action_id(name, one), "revision": one, "verb": "change", "state": "applied", "reason": "",
             "ended": now + timedelta(seconds=1)}
            for one in range(1, revisions + 1)
        ],
    }  # fmt: skip


def measure(full: httpx.Client, empty: httpx.Client, rounds: int) -> None:
    """Ask both in turn, and print each route's quantiles with their ratios."""
    print(f"{'route':<45}{'p50 ms':>9}{'p99 ms':>9}{'empty p50':>11}{'p99':>7}{'ratio p50':>11}{'p99':>7}")
    for route in ROUTES:
        path = route.format(model="model-0000", deployment="deployment-0000")
        waited: dict[str, list[float]] = {"full": [], "empty": []}
        # The first answer fills what is kept between requests.
        _seconds(full, path), _seconds(empty, path)
        for _ in range(rounds):
            waited["full"].append(_seconds(full, path))
            waited["empty"].append(_seconds(empty, path))
        (f50, f99), (e50, e99) = (_quantiles(waited[which]) for which in ("full", "empty"))
        print(f"{route:<45}{f50:9.1f}{f99:9.1f}{e50:11.1f}{e99:7.1f}{f50 / e50:11.1f}{f99 / e99:7.1f}", flush=True)


def _seconds(http: httpx.Client, path: str) -> float:
    begun = time.perf_counter()
    http.get(path).raise_for_status()
    return time.perf_counter() - begun


def _quantiles(waited: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(waited)
    return 1_000 * ordered[len(ordered) // 2], 1_000 * ordered[int(len(ordered) * 0.99)]


def main() -> None:
    """Run with arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--revisions", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    size = Size(given.models, given.versions, given.deployments, given.revisions)
    with (
        tempfile.TemporaryDirectory() as folder,
        asked(Path(folder) / "full", size) as full,
        asked(Path(folder) / "empty", EMPTY) as empty,
    ):
        print(size)
        measure(full, empty, given.rounds)


if __name__ == "__main__":
    main()
