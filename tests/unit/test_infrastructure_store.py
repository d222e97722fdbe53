"""Which store an infrastructure takes: the instance's own needs no credentials of its own."""

from __future__ import annotations

from pathlib import Path

from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.infrastructures.rows import InfrastructureInput, InfrastructureRows, write_local
from quarterdeck_deployer.settings import Settings


def test_the_instances_own_store_may_be_named(tmp_path: Path) -> None:
    """Given a store that only the instance has credentials for, when one names it, then it is as if left out."""
    database = Database(tmp_path / "deployer.db")
    database.migrate()
    store = "s3://models?endpoint=http://127.0.0.1:9&region=here"
    write_local(database.writing, Settings(data=tmp_path, store=store))
    rows = InfrastructureRows(database, lambda: None)
    act = Act(who="ann", why="")
    left_out = rows.put("edge", InfrastructureInput(kind="static"), act)
    named = rows.put("edge", InfrastructureInput(kind="static", store=store), act)
    assert (named.created, named.infrastructure) == (False, left_out.infrastructure)
    database.close()
