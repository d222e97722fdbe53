"""Where the records of a deployment are looked for: in the store of its infrastructure, under the name that they have there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quarterdeck.rollout import Record
from quarterdeck.storage import open_storage
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.deployments import Living
from quarterdeck_deployer.infrastructures.base import LOCAL
from quarterdeck_deployer.infrastructures.running import Facts, Infrastructures
from quarterdeck_deployer.models import InfrastructureRow, Stage


def _made(facts: Facts) -> Any:
    """One that is never run."""
    return SimpleNamespace(name=facts.name)


@pytest.mark.parametrize(("stage", "store", "dataset"), [("dev", "home", "late"), ("prod", "far", "shop.late")])
def test_records_are_found_where_the_stage_is(tmp_path: Path, stage: str, store: str, dataset: str) -> None:
    """Given a stage on a cluster, then its records are called by namespace and name, in the cluster's store."""
    database = Database(tmp_path / "deployer.db")
    database.migrate()
    rows: dict[str, dict[str, Any]] = {
        LOCAL: {"kind": "local", "store": "memory://home", "settings": {}},
        "cluster": {"kind": "kubernetes", "store": "memory://far", "settings": {"namespace": "shop"}},
    }
    with database.writing.begin() as session:
        session.add_all(InfrastructureRow(name=name, created=utc_now(), **row) for name, row in rows.items())
        session.flush()
        session.add(Stage(name="prod", position=1, infrastructure="cluster", gates=[], approval=False, created=utc_now()))
    found = Infrastructures(database, open_storage("memory://home"), {"local": _made, "kubernetes": _made})
    wish: Any = SimpleNamespace(deployment="late", stage=stage)
    records = found.records(Living(wish=wish, record=Record(), record_version=0))
    open_storage(f"memory://{store}").put("records/probe", b"here")
    assert records.storage.get("records/probe") == b"here"
    assert records.dataset == dataset
    database.close()
