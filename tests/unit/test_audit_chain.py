"""The chain of the audit trail, by itself: what it seals, and what it notices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.audit_chain import MEMBERS, Chain, seal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ROW = st.fixed_dictionaries(
    {
        "at": st.datetimes(timezones=st.just(UTC)),
        "who": st.text(),
        "verb": st.text(),
        "object": st.text(),
        "before": st.none() | st.dictionaries(st.text(), JSON, max_size=3),
        "after": st.none() | st.dictionaries(st.text(), JSON, max_size=3),
        "reason": st.text(),
    }
)


def trail(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows numbered and sealed."""
    previous, sealed = "", []
    for number, row in enumerate(rows, 1):
        previous = seal(previous, {**row, "sequence": number})
        sealed.append({**row, "sequence": number, "sha256": previous})
    return sealed


def first_fault(rows: list[dict[str, Any]]) -> tuple[int, str]:
    """How many rows are whole, and what is wrong with the next; nothing where all are."""
    chain = Chain()
    for row in rows:
        if fault := chain.fault(row):
            return chain.rows, fault
    return chain.rows, ""


@given(st.lists(ROW, max_size=5))
def test_a_trail_is_whole_in_memory_and_as_json_lines(rows: list[dict[str, Any]]) -> None:
    """The seals do not depend on what a row has been through: objects, or text in a file."""
    sealed = trail(rows)
    lines = [json.dumps({**row, "at": row["at"].isoformat()}) for row in sealed]
    assert first_fault(sealed) == first_fault([json.loads(line) for line in lines]) == (len(rows), "")


@given(st.lists(ROW, min_size=1, max_size=5), st.data())
def test_any_change_of_any_member_is_noticed_where_it_is(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """The row is named, not the ones after it."""
    sealed = trail(rows)
    which = data.draw(st.integers(0, len(rows) - 1))
    member = data.draw(st.sampled_from([*MEMBERS, "sha256"]))
    last = sealed[which]["at"].year == 9999
    other = {
        "at": datetime(1, 1, 1, tzinfo=UTC) if last else sealed[which]["at"] + timedelta(microseconds=1),
        "before": {"": 0, "new": 1},
        "after": {"": 0, "new": 1},
        "sequence": sealed[which]["sequence"] + 7,
    }
    sealed[which] = {**sealed[which], member: other.get(member, f"{sealed[which][member]}x")}
    assert first_fault(sealed)[0] == which
    assert first_fault(sealed)[1]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_row_is_named(gone: int) -> None:
    """Taking one away shows at its place; the last one's absence only shows to whoever noted it."""
    rows = trail([{"at": datetime(2026, 11, 21, hour, tzinfo=UTC), "who": "ana", "verb": "stop", "object": "deployment/late",
                   "before": None, "after": None, "reason": ""} for hour in range(4)])  # fmt: skip
    del rows[gone]
    assert first_fault(rows) == (gone, f"Entry {gone + 1} is missing.")


def test_one_moment_is_one_moment_in_every_zone() -> None:
    """An export may write its times as it likes, as long as the zone stands beside them."""
    row = {"sequence": 1, "who": "a", "verb": "b", "object": "c", "before": None, "after": None, "reason": ""}
    moment = datetime(2026, 11, 21, 12, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=9)))
    assert seal("", {**row, "at": moment}) == seal("", {**row, "at": there.isoformat()}) == seal("", {**row, "at": there})


@pytest.mark.parametrize("at", ["2026-11-21T12:00:00", "yesterday", 5, None])
def test_a_time_that_is_none_is_a_fault(at: Any) -> None:
    """Whatever a file holds, verifying it ends with an answer."""
    row = trail([{"at": datetime(2026, 11, 21, tzinfo=UTC), "who": "", "verb": "", "object": "", "before": None, "after": None,
                  "reason": ""}])[0]  # fmt: skip
    assert first_fault([{**row, "at": at}]) == (0, "Entry 1 is not what was written.")
    assert first_fault([{"sequence": 1}]) == (0, "Entry 1 is not what was written.")
    assert first_fault([{}]) == (0, "Entry 1 is missing.")
