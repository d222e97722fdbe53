"""What the programs export is what Prometheus' own checker wants, before the first request and after many."""

from __future__ import annotations

from pathlib import Path

from tests.deployer_world import world
from tests.nodes import binary, deployment, local_node
from tests.prometheus import complaints

ROW = {"distance": 512.5, "hour": 7, "holiday": True, "carrier": "B6", "wind": 3.25}


def test_the_checker_has_nothing_to_say_about_a_node(tmp_path: Path) -> None:
    """Names, units, types and help; histograms whole and in order."""
    with local_node(tmp_path) as node:
        assert complaints(node.get("/metrics").text) == ""
        node.serves(deployment(node.holds(binary(), 1), name="late"))
        for body in (ROW, [ROW, ROW], {"nothing": 1}):
            node.predict(body, "late")
        scraped = node.get("/metrics").text
    assert complaints(scraped) == ""
    assert 'protocol="plain"' in scraped


def test_the_checker_has_nothing_to_say_about_the_deployer(tmp_path: Path) -> None:
    """The same of the control room."""
    with world(tmp_path) as found:
        found.register(1)
        found.put()
        assert complaints(found.http.get("/metrics").text) == ""


def test_the_checker_finds_faults() -> None:
    """It is really asked: a counter without its suffix is named."""
    assert "total" in complaints("# HELP requests Requests.\n# TYPE requests counter\nrequests 1\n")
