"""Pods as readings: role, life, memory, and processor time added up from rates."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck_deployer.infrastructures.kubernetes_pods import Busy, quantity, usage


def pod(name: str = "late-main-1", phase: str = "Running", ready: str = "True", **metadata: Any) -> dict[str, Any]:
    """A pod."""
    labels = {"quarterdeck.dev/role": "challenger" if "challenger" in name else "main"}
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, **metadata}, "status": status}


def metrics(name: str, *containers: tuple[str, str]) -> dict[str, Any]:
    """What a metrics server says of a pod."""
    return {
        "metadata": {"name": name},
        "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": memory}} for cpu, memory in containers],
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2),
        ("250m", 0.25),
        ("12345678n", 0.012345678),
        ("128Mi", 2**27),
        ("1e3", 1000),
        ("5k", 5000),
        ("", 0),
        ("x", 0),
        ("1Zi", 0),
    ],
)
def test_a_quantity_is_a_number(text: str, number: float) -> None:
    """Nothing a metrics server may say fails."""
    assert quantity(text) == pytest.approx(number)


def test_containers_count_together() -> None:
    """Serving and agent are one node."""
    cores, memory = usage([metrics("a", ("250m", "1Mi"), ("750m", "3Mi"))])["a"]
    assert cores == pytest.approx(1.0)
    assert memory == 2**22


@pytest.mark.parametrize(
    ("given", "live", "ready"),
    [
        (pod(), True, True),
        (pod(ready="False"), True, False),
        (pod(phase="Pending"), False, False),
        (pod(phase="Failed"), False, False),
        (pod(deletionTimestamp="now"), False, False),
    ],
)
def test_a_pod_lives_while_it_runs(given: dict[str, Any], live: bool, ready: bool) -> None:
    """And is ready only while it lives."""
    (found,) = Busy().readings([given], {}, 0)
    assert (found.live, found.ready) == (live, ready)


def test_processor_time_grows_with_the_rate_and_begins_anew_with_a_pod() -> None:
    """Half a processor for ten seconds is five seconds."""
    busy, used = Busy(), {"late-main-1": (0.5, 4096.0)}
    assert busy.readings([pod()], used, 100)[0].cpu_seconds == 0
    found = busy.readings([pod(), pod("late-challenger-1")], used, 110)
    assert [(one.node, one.role, one.cpu_seconds, one.rss_bytes) for one in found] == [
        ("late-challenger-1", "challenger", 0, 0),
        ("late-main-1", "main", 5.0, 4096),
    ]
    assert busy.readings([pod(uid="another")], used, 120)[0].cpu_seconds == 5.0


def test_a_long_name_is_told_by_its_end() -> None:
    """The end is what differs between two pods."""
    (found,) = Busy().readings([pod("a" * 60 + "-challenger-7d9f8-x1z2y")], {}, 0)
    assert found.node.endswith("-x1z2y")
    assert len(found.node) <= 63
