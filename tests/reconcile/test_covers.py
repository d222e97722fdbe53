"""What counts as "it says so already": our fields, in any spelling of the API server."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck_operator.quantities import covers


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({}, {"a": {}}, True),
        ({"a": None}, {"a": []}, True),
        ({}, {"a": False}, True),
        ({"a": True}, {"a": 1}, False),
        ({"cpu": "500m"}, {"cpu": "0.5"}, True),
        ({"memory": "1536Mi"}, {"memory": "1.5Gi"}, True),
        ({"memory": "1Gi"}, {"memory": "1G"}, False),
        ({"cpu": "2"}, {"cpu": 2}, True),
        ({"text": "m"}, {"text": "k"}, False),
        ([{"name": "x", "value": "1"}, {"name": "theirs"}], [{"name": "x", "value": "1"}], True),
        ([{"name": "y"}, {"name": "x"}], [{"name": "x"}, {"name": "y"}], True),
        ([{"name": "x", "value": "2"}], [{"name": "x", "value": "1"}], False),
        (["ALL", "NET"], ["ALL"], False),
        (["ALL"], ["ALL"], True),
        ([{"port": 80, "protocol": "TCP"}], [{"port": 80}], True),
    ],
)
def test_covers(live: Any, wanted: Any, same: bool) -> None:
    """A table of live and wanted values."""
    assert covers(live, wanted) is same
