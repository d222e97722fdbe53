"""What becomes of actions: each ends once, applied or failed or overtaken, by what nodes are seen to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from quarterdeck_deployer.actions import Settler
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.deployments import find
from quarterdeck_deployer.infrastructures.kubernetes_adoption import adopt
from tests.deployer_world import World, world

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with two versions and no deployment."""
    with world(tmp_path) as found:
        found.register(1)
        found.register(2)
        yield found


def action(here: World, ident: str) -> dict[str, Any]:
    """One action as the API shows it."""
    return here.ok(here.http.get(f"/api/actions/{ident}"))


def ended(here: World, ident: str) -> dict[str, Any]:
    """The same, once it has ended; nodes live on meanwhile."""
    here.until(lambda: action(here, ident)["state"] != "accepted")
    return action(here, ident)


def late(here: World, seconds: float) -> Settler:
    """The same look by a process that has run for so long."""
    ticks = iter([0.0])
    return settling(here, seconds, lambda: next(ticks, seconds))


def settling(here: World, seconds: float, ticks: Callable[[], float] = monotonic) -> Settler:
    """What looks after actions, so many seconds from now."""
    deployer = here.deployer
    later = timedelta(seconds=seconds)
    return Settler(deployer.database, deployer.observe, deployer.infrastructures.holders, lambda: utc_now() + later, ticks)


def test_an_action_is_accepted_and_then_applied(here: World) -> None:
    """The answer names it; it tells who, what, why, and ends when nodes were seen to do it."""
    answered = here.put(why="first")
    assert (answered["action"], answered["state"]) == ("late-1", "accepted")
    before = action(here, "late-1")
    assert (before["verb"], before["why"], before["who"], before["revision"]) == ("create", "first", "admin", 1)
    assert before["ended"] is None
    after = ended(here, "late-1")
    assert (after["state"], after["reason"]) == ("applied", "")
    assert datetime.fromisoformat(after["ended"]) >= datetime.fromisoformat(after["created"])


def test_an_answer_that_waited_tells_the_end(here: World) -> None:
    """Whoever waited until it was applied finds the action applied, not half a second later."""
    here.put()
    here.settled()
    answer = here.ok(here.http.post("/api/deployments/late/stop", json={}))
    here.settled()
    again = here.ok(here.http.post("/api/deployments/late/stop", params={"wait": 60}, json={}))
    assert (again["action"], again["changed"], again["applied"], again["state"]) == (answer["action"], False, True, "applied")


def test_a_newer_revision_overtakes(here: World) -> None:
    """Nobody can tell any more whether the older one was ever done, so nobody says so."""
    here.put(main=1)
    here.put(main=2)
    found = ended(here, "late-1")
    assert (found["state"], found["reason"]) == ("overtaken", "Revision 2 has taken its place.")
    assert ended(here, "late-2")["state"] == "applied"


def test_a_refusal_is_a_failure_with_its_reason(here: World) -> None:
    """In the node's own words."""
    here.put(main=1)
    here.settled()
    here.main.refuses[here.deployer.registry.version("flights", 2).digest] = "golden-mismatch"
    here.put(main=2)
    found = ended(here, "late-2")
    assert found["state"] == "failed"
    assert "node main" in found["reason"]


def test_a_challenger_that_is_refused_is_a_failure(here: World) -> None:
    """Main does what was asked, and the pair as a whole does not."""
    here.put(main=1)
    here.settled()
    here.challenger.refuses[here.deployer.registry.version("flights", 2).digest] = "load-failed"
    here.put(main=1, challenger=2)
    assert ended(here, "late-2")["state"] == "failed"


def test_a_deletion_is_applied_once_no_node_holds_it(here: World) -> None:
    """Until then it is on its way."""
    here.put()
    here.settled()
    answered = here.ok(here.http.delete("/api/deployments/late"))
    assert ended(here, answered["action"])["state"] == "applied"
    assert "late" not in here.main.answering


def test_what_is_never_seen_fails_when_its_time_is_over(here: World) -> None:
    """Nodes that are gone cannot refuse; the reason says what was missing."""
    here.put(progress_seconds=60)
    late(here, 50).settle()
    assert action(here, "late-1")["state"] == "accepted"
    late(here, 70).settle()
    found = action(here, "late-1")
    assert (found["state"], found["reason"]) == ("failed", "It was not seen within 60 s: no live main node has reported")


def test_time_without_a_process_does_not_count(here: World) -> None:
    """After an hour's outage nodes have not spoken yet when the first look comes: that is no failure of theirs."""
    here.put(progress_seconds=60)
    settling(here, 3_600).settle()
    assert action(here, "late-1")["state"] == "accepted"
    assert ended(here, "late-1")["state"] == "applied"


def test_what_was_adopted_is_an_action_too(here: World) -> None:
    """Whoever asks next for what is so already is answered with it."""
    here.put()
    with here.deployer.writing.begin() as session:
        current = find(session, "late")
        assert current is not None
        adopt(session, "late", current, current.content, Act(who="kubectl"), above=5)
    answer = here.ok(here.http.delete("/api/deployments/late/challenger"))
    assert (answer["action"], answer["changed"]) == ("late-6", False)
    found = ended(here, "late-6")
    assert (found["verb"], found["who"], found["state"]) == ("adopt", "kubectl", "applied")


def test_an_end_is_written_once(here: World) -> None:
    """Looking again changes nothing, and the database itself refuses another end."""
    here.put()
    first = ended(here, "late-1")
    here.put(main=2)
    here.settled()
    late(here, 10_000).settle()
    assert action(here, "late-1") == first
    with pytest.raises(IntegrityError), here.deployer.writing.begin() as session:
        session.execute(text("UPDATE actions SET state = 'failed' WHERE id = 'late-1'"))


def test_actions_outlive_the_process(tmp_path: Path) -> None:
    """What was accepted before a restart ends after it."""
    with world(tmp_path) as before:
        before.register(1)
        before.put()
    with world(tmp_path) as after:
        assert ended(after, "late-1")["state"] == "applied"


def test_lists_hold_what_is_asked_for_page_by_page(here: World) -> None:
    """Newest first; a page names the next one, which neither repeats nor leaves out anything."""
    for name in ("late", "early"):
        for main in (1, 2, 1):
            here.put(name, main=main)
    every = here.http.get("/api/actions").json()
    assert [one["id"] for one in every] == ["early-3", "early-2", "early-1", "late-3", "late-2", "late-1"]
    of_late = here.http.get("/api/actions", params={"deployment": "late"}).json()
    assert [one["id"] for one in of_late] == [
        "late-3",
        "late-2",
        "late-1",
    ]
    here.until(lambda: not here.http.get("/api/actions", params={"state": "accepted"}).json())
    overtaken = here.http.get("/api/actions", params={"state": "overtaken"}).json()
    assert [one["id"] for one in overtaken] == ["early-2", "early-1", "late-2", "late-1"]
    found, url = [], "/api/actions?limit=2&state=overtaken"
    while url:
        answer = here.http.get(url)
        found += answer.json()
        url = answer.links.get("next", {}).get("url", "")
    assert found == overtaken


def test_an_unknown_action_is_not_found(here: World) -> None:
    """With the way to those there are."""
    answer = here.http.get("/api/actions/late-99")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_one_that_cannot_be_looked_after_holds_up_no_other(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its infrastructure may be gone: it stays accepted, and the others end."""
    here.put("gone")
    here.put("late")
    observe = here.deployer.observe

    def sometimes(one: Any) -> Any:
        return here.deployer.deployments.one("nowhere") if one.wish.deployment == "gone" else observe(one)

    here.settled("late")
    Settler(here.deployer.database, sometimes, lambda _: [], lambda: datetime.now(UTC)).settle()
    assert action(here, "late-1")["state"] == "applied"
