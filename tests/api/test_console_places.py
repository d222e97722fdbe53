"""Infrastructures and nodes in the console: what lives, what was used in a day, who joins and who is sent away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from quarterdeck_deployer.console.charts import HEIGHT, WIDTH, day
from quarterdeck_deployer.usage import SPELL_SECONDS, RoleUsage
from tests.api.test_console_access import page, post
from tests.api.test_console_pages import field, text
from tests.console_furnished import NODES, PLACE, furnish
from tests.deployer_world import World, world

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PATH = f"/infrastructures/{PLACE}"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both nodes of the local infrastructure live; three have joined the static one, and one of them was sent away."""
    with world(tmp_path_factory.mktemp("places")) as found:
        found.register(1)
        found.put()
        found.settled()
        furnish(found)
        found.deployer.usage.sample()
        yield found


def points(*at: int, role: str = "main", rss: int = 1_000_000, cores: float | None = 0.5) -> list[RoleUsage]:
    """Points so many spells before noon."""
    given = {"role": role, "nodes": 1, "rss_bytes": rss, "cpu_cores": cores}
    return [RoleUsage.model_validate({"at": NOW - timedelta(seconds=SPELL_SECONDS * one), **given}) for one in at]


def test_a_curve_goes_from_left_to_right_and_stops_where_nothing_is_known() -> None:
    """A gap is a gap: two strokes; what was used most stands below the upper edge, which is a round number."""
    found = day(points(288, 287, 100, 1, 0), NOW)
    assert found is not None
    curve = found.charts[0].curves[0]
    assert re.findall("[ML]", curve.path) == ["M", "L", "M", "M", "L"]
    assert curve.path.startswith("M0.0 0.0 ")
    assert f"L{WIDTH}.0 0.0" in curve.path
    assert curve.words == "1.0 MB now, 1.0 MB at most"
    assert (found.charts[0].top, found.charts[1].top, HEIGHT) == ("1.0 MB", "0.50", 100)


def test_what_was_last_known_is_not_told_as_of_now() -> None:
    """A role that is silent since an hour has no present."""
    found = day(points(12), NOW)
    assert found is not None
    assert found.charts[0].curves[0].words == "1.0 MB last, 2026-11-21 11:00:00 UTC, 1.0 MB at most"


@pytest.mark.parametrize("cores", [None, 0.0])
def test_a_curve_of_nothing_divides_by_nothing(cores: float | None) -> None:
    """Processors that nobody has measured yet, or that were idle."""
    found = day(points(1, 0, rss=0, cores=cores), NOW)
    assert found is not None
    assert found.charts[1].top == "1.00"
    assert len(found.charts[1].curves) == (cores is not None)
    assert day([], NOW) is None


def test_the_table_behind_the_curves_has_the_largest_values_of_each_hour() -> None:
    """The newest hour first, both roles in it."""
    found = day([*points(13, 12), *points(1, rss=9_000_000), *points(1, role="challenger", cores=None)], NOW)
    assert found is not None
    assert [(f"{one.at:%H}", one.role, one.memory, one.processors) for one in found.hours] == [
        ("11", "challenger", "1.0 MB", "–"), ("11", "main", "9.0 MB", "0.50"), ("10", "main", "1.0 MB", "0.50"),
    ]  # fmt: skip


def test_the_api_tells_the_same_by_role(here: World) -> None:
    """Nodes of one role together, page by page, the oldest first; nobody else's."""
    found = here.http.get(f"/api{PATH}/usage", params={"limit": 1000}).json()
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    last = {one["role"]: one for one in found}
    assert (last["main"]["nodes"], last["challenger"]["nodes"]) == (2, 1)
    assert 1.4e9 < last["main"]["rss_bytes"] < 2.3e9
    assert here.http.get("/api/infrastructures/nope/usage").status_code == 404


def test_the_list_counts_what_lives(here: World) -> None:
    """A node that has joined and never spoke is no living one; one that was sent away is none at all."""
    shown = text(page(here, "/infrastructures"))
    assert re.search(r"edge static – 0 of 2 0 B –", shown)
    assert re.search(r"local local dev, staging, prod \d of 2 ", shown)


def test_an_infrastructure_shows_nodes_and_curves(here: World) -> None:
    """Silence is unknown and never green; a node that was sent away says when; both charts have their table."""
    html = page(here, PATH)
    shown = text(html)
    assert re.search(r"edge-main-1 \? unknown main never", shown)
    assert re.search(r"edge-challenger-1 ✕ revoked challenger revoked 20", shown)
    assert html.count('role="img"') == 2
    assert html.count('<path class="line main" d="M') == 4
    assert "The same in numbers, by the hour" in html
    assert "Nothing is known yet" not in html
    here.step()
    assert "● ready" in text(page(here, "/infrastructures/local"))


def test_a_node_shows_what_it_holds(here: World) -> None:
    """Version and role of each deployment that it has spoken of; of a silent one nothing is claimed."""
    here.step()
    local = text(page(here, "/infrastructures/local/nodes/main"))
    assert re.search(r"late main flights v1 ● ready", local)
    silent = page(here, f"{PATH}/nodes/edge-main-1")
    assert "Nothing that it has spoken of" in silent
    assert "Revoke…" in silent
    assert "Revoke…" not in page(here, "/infrastructures/local/nodes/main")
    assert here.http.get("/infrastructures/local/nodes/edge-main-1").status_code == 404


def test_a_join_token_is_shown_once_and_lets_one_node_in(here: World) -> None:
    """With the command for the node's host; a double click makes one, a mistake none, and the trail has no token."""
    form = {"ticket": field(page(here, PATH), "ticket"), "role": "challenger"}
    wrong = post(here, f"{PATH}/tokens", **form, minutes="0")
    assert (wrong.status_code, '<a href="#minutes">minutes</a>' in wrong.text) == (422, True)
    made = post(here, f"{PATH}/tokens", **form, minutes="5")
    assert made.status_code == 201
    found = re.search(rf"quarterdeck node join {here.http.base_url}".rstrip("/") + r" --token ([\w-]+)", made.text)
    assert found is not None
    again = post(here, f"{PATH}/tokens", **form, minutes="5")
    assert (again.status_code, "join --token" in again.text) == (409, False)
    assert all(found[1] not in page(here, path) for path in (PATH, "/audit"))
    with httpx.Client(base_url=here.http.base_url) as host:
        joined = host.post("/nodes/join", json={"token": found[1], "url": "http://late:8401", "name": "edge-late"})
    assert (joined.status_code, joined.json()["role"]) == (201, "challenger")
    assert "edge-late" in page(here, PATH)


def test_only_static_infrastructures_offer_a_join_token(here: World) -> None:
    """The local one has its nodes beside the deployer."""
    assert "Let a node join" not in page(here, "/infrastructures/local")
    assert post(here, "/infrastructures/local/tokens", ticket="x", minutes="5").status_code == 409


def test_a_node_is_sent_away_on_a_page_of_its_own(here: World) -> None:
    """Once; with a reason in the trail. What never joined, or has gone, cannot be."""
    path = f"{PATH}/nodes/{next(iter(NODES))}/revoke"
    assert '<button class="danger">Revoke node edge-main-1</button>' in page(here, path)
    answers = [post(here, path, why="sold") for _ in range(2)]
    assert {one.headers["location"] for one in answers} == {PATH}
    trail = here.http.get("/api/audit", params={"object": "node/edge-main-1", "verb": "revoke"}).json()
    assert [one["reason"] for one in trail] == ["sold"]
    for gone in (path, "/infrastructures/local/nodes/main/revoke"):
        assert here.http.get(gone, headers={"accept": "text/html"}).status_code == 409
