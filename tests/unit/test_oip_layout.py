"""Requests whose layout is known already: read as the general road reads them, or left to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.schema import Feature, Row, Schema
from quarterdeck_node.binding import Binder
from quarterdeck_node.doors.oip_layout import MAX_BYTES, MAX_LAYOUTS, Layouts
from quarterdeck_node.doors.tensors import outputs

SCHEMA = Schema(
    task="binary",
    classes=["no", "50 % yes"],
    positive="50 % yes",
    features=[
        Feature(name="x", type="float"),
        Feature(name="50 %", type="int", nullable=True),
        Feature(name="s", type="string"),
    ],
)
ROW: Row = {"x": 0.25, "50 %": 3, "s": "abc"}
KINDS = {"x": "FP64", "50 %": "INT64", "s": "BYTES"}
ASKED = list(outputs(SCHEMA).values())


def body(row: Mapping[str, Any] = ROW, shape: str = "[1]", blank: str = "", **more: Any) -> bytes:
    """A request with a tensor for each value; `blank` stands where JSON libraries put one."""
    tensors = [
        f'{{"name":{json.dumps(name)},"shape":{shape},"datatype":"{KINDS[name]}","data":{blank}[{json.dumps(value)}]}}'
        for name, value in row.items()
    ]
    rest = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in more.items())
    return f'{{"inputs":[{",".join(tensors)}]{rest}}}'.encode()


def learned(*bodies: bytes) -> Layouts:
    """Layouts that were learned from requests with `ROW` in them."""
    found = Layouts(Binder(SCHEMA))
    for one in bodies or (body(),):
        found.learn(one, list(ROW), ROW, ASKED)
    return found


@given(st.floats(-1e9, 1e9), st.none() | st.integers(-(10**9), 10**9), st.text("abc%]}{, é😀", max_size=20))
def test_other_values_in_a_known_layout_are_read(x: float, n: int | None, s: str) -> None:
    """As what they are, whatever signs are in the texts; the text is that of an array with the record."""
    row: Row = {"x": x, "50 %": n, "s": s}
    sent = body(row).decode().encode()
    found = learned().read(sent)
    # A text that is written with escapes is left to the general road.
    if b"\\" in sent:
        assert found is None
        return
    assert found is not None
    assert found[0] == row
    assert json.loads(found[1]) == [row]


def test_features_in_another_order_are_bound_by_name() -> None:
    """The row has the schema's order."""
    turned = dict(reversed(ROW.items()))
    found = Layouts(Binder(SCHEMA))
    found.learn(body(turned), list(turned), ROW, ASKED)
    read = found.read(body(turned))
    assert read is not None
    assert list(read[0].items()) == list(ROW.items())


def test_a_blank_before_the_values_is_a_layout_of_its_own() -> None:
    """As Python's json writes it."""
    spaced = body(blank=" ")
    assert learned().read(spaced) is None
    assert learned(spaced).read(spaced) is not None


@pytest.mark.parametrize(
    "changed",
    [
        body({**ROW, "x": "0.25"}),
        body({**ROW, "x": None}),
        body({**ROW, "x": True}),
        body({**ROW, "x": [0.25]}),
        body({**ROW, "x": {"s": 1}}),
        body({**ROW, "50 %": 3.5}),
        body({**ROW, "50 %": 10**30}),
        body({**ROW, "s": 'a"b'}),
        body({**ROW, "s": "a:b"}),
        body({"x": 0.25, "s": "abc"}),
        body(shape="[2]"),
        body(id="7"),
        body().replace(b"[0.25]", b"[]"),
        body().replace(b"[0.25]", b"[0.25,1]"),
        body().replace(b"[0.25]", b"[NaN]"),
        body().replace(b"[0.25]", b'[0.25,"s":"x"]'),
        body().replace(b"[0.25]", b'[0.25],"data":[1]'),
        body().replace(b'["abc"]', b'["abc\\"]'),
        body().replace(b'["abc"]', b'["abc\xff"]'),
        body().replace(b'["abc"]', b'["abc]'),
        body().replace(b'"FP64"', b'"FP6%"'),
        body() + b" ",
        body()[:-1],
        b"",
    ],
)
def test_whatever_is_not_quite_as_before_is_left_to_the_general_road(changed: bytes) -> None:
    """It says what is wrong, or takes it after all."""
    assert learned().read(changed) is None


@pytest.mark.parametrize("taught", [body({**ROW, "s": "a]b"}), body({**ROW, "s": "a:b"}), body() + b" " * MAX_BYTES])
def test_a_request_that_cannot_be_a_layout_is_not_kept(taught: bytes) -> None:
    """The next one like it takes the general road as well."""
    found = Layouts(Binder(SCHEMA))
    found.learn(taught, list(ROW), ROW, ASKED)
    assert found.read(taught) is None


def test_callers_cannot_fill_the_memory_with_layouts() -> None:
    """Beyond a few, all are forgotten and learned anew."""
    bodies = [b" " * count + body() for count in range(MAX_LAYOUTS + 1)]
    found = learned(*bodies)
    assert [found.read(one) is not None for one in bodies] == [False] * MAX_LAYOUTS + [True]
