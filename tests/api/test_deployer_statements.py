"""How many questions a list or a page asks the database: as many for thirty rows as for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert

from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import Promotion
from tests.campaigns.deployer_scale import Size, filled
from tests.deployer_world import World

MANY = 30
NAMES: dict[str, str] = {
    "model": "model-0000",
    "version": "1",
    "run": "run",
    "name": "deployment-0000",
    "action": "deployment-0000-1",
    "promotion": "1",
    "query": "query-0",
    "person": "",
    "project": "project-0",
    "node": "main",
}
"""What stands in a path's braces; `name` is another thing under /api/nodes, /api/stages and /api/infrastructures."""
NAMED = {"/api/nodes/": "main", "/api/stages/": "dev", "/api/infrastructures/": "local"}
QUERIES = {"/api/models/{model}/compare": "?a=1&b=1"}
WITHOUT_ROWS = {"/login", "/plans/{node}", "/health", "/metrics", "/.well-known/jwks.json", "/api/instance"}
PAGES = ["/models", "/models/model-0000", "/models/model-0000/versions/1", "/models/model-0000/run?name=run", "/deployments",
         "/deployments/deployment-0000", "/deployments/deployment-0000/queries", "/deployments/deployment-0000/promote",
         "/stages", "/stages/dev", "/infrastructures", "/infrastructures/local", "/infrastructures/local/nodes/main", "/keys",
         "/projects", "/projects/default", "/people", "/actions", "/audit", "/audit/verify"]  # fmt: skip


def paths(here: World) -> list[str]:
    """Every address of a list or a detail: those of the document, and the console's pages."""
    document = here.ok(here.http.get("/openapi.json"))
    people = here.http.get("/api/people").json()
    found = []
    for template, methods in document["paths"].items():
        if "get" in methods and template not in WITHOUT_ROWS:
            names = {**NAMES, "person": people[0]["id"]}
            names["name"] = next((name for start, name in NAMED.items() if template.startswith(start)), names["name"])
            found.append(template.format(**names) + QUERIES.get(template, ""))
    return [*found, *PAGES]


def more(here: World, count: int) -> None:
    """So many of everything that the seeding leaves out."""
    for number in range(count):
        person = {"name": f"person {number}", "email": f"person{number}@example.org", "role": "viewer"}
        here.ok(here.http.post("/api/projects", json={"name": f"project-{number}"}))
        here.ok(here.http.post("/api/people", json=person))
        query = {"rows": [{"hour": 1.0, "distance": 1.0}]}
        changes: list[tuple[str, dict[str, Any]]] = [
            (f"/api/stages/stage-{number}", {"position": 10 + number, "infrastructure": "local", "gates": []}),
            (f"/api/infrastructures/place-{number}", {"kind": "static", "store": f"memory://place-{number}"}),
            (f"/api/deployments/deployment-0000/test-queries/query-{number}", query),
        ]
        for path, body in changes:
            here.ok(here.http.put(path, json=body))
    with here.deployer.writing.begin() as session:
        session.execute(insert(Promotion), [_promotion() for _ in range(count)])
    here.step()


def _promotion() -> dict[str, Any]:
    texts = ("code", "reason", "why", "decided_by", "decided_why")
    return {
        "state": "refused", "source": "deployment-0000", "source_revision": 1, "source_stage": "dev", "target": "elsewhere",
        "target_stage": "prod", "seen": 0, "service": "deployment-0000", "project": "default",
        "main": {"model": "model-0000", "version": 1, "digest": "sha256:" + 64 * "0"}, "gates": [], "who": "seed",
        "created": utc_now(), **dict.fromkeys(texts, ""),
    }  # fmt: skip


@contextmanager
def counted(here: World) -> Iterator[list[str]]:
    """The statements that requests send; those of the loops are others' business."""
    sent: list[str] = []

    def count(connection: Any, cursor: Any, text: str, *_: Any) -> None:
        if threading.current_thread().name.startswith("AnyIO worker"):
            sent.append(text)

    event.listen(here.deployer.database.engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        event.remove(here.deployer.database.engine, "before_cursor_execute", count)


def statements(folder: Path, count: int) -> dict[str, list[str]]:
    """Address → what was asked for it, with so many rows of everything."""
    asked = {}
    with filled(folder, Size(count, count, count, count)) as here:
        more(here, count)
        for path in paths(here):
            # The first answer may fill what is kept between requests.
            here.http.get(path)
            with counted(here) as sent:
                answer = here.http.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text[:500]}"
            asked[path] = list(sent)
    return asked


def test_no_route_asks_more_where_there_is_more(tmp_path: Path) -> None:
    """Each list and each detail, of API and console."""
    one, many = statements(tmp_path / "one", 1), statements(tmp_path / "many", MANY)
    assert one.keys() - many.keys() == {path for path in one if path.startswith("/api/people/")}
    grown = {
        path: (len(sent), len(many[path]), [text for text in set(many[path]) if many[path].count(text) > sent.count(text)])
        for path, sent in one.items()
        if path in many and len(many[path]) > len(sent)
    }
    assert grown == {}
    assert len(one) > 25
