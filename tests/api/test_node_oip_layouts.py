"""Inference requests of a known layout and the general road: the same answer, refusal and record to whatever bytes are sent."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.records import MainRecord
from quarterdeck_node.doors.oip_layout import Layouts
from tests.served import ROW, Answered, Served, default_slots, served

PATH = "/v2/models/open/infer"
KINDS = {"x": "FP64", "n": "INT64", "s": "BYTES"}

# Written as callers may write them, right and wrong.
NUMBERS = [
    *("0", "-0", "0.0", "-0.0", "1", "1.0", "1e3", "1E+3", "0.1e1", "1e-400", "1e400", "-1e400", "1e25", "0.1"),
    *("0.5000000000000000001", "9007199254740993", "100000000000000000", "999999999999999999", "1000000000000000000"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("01", "+1", "1.", ".5", "-", "1e", "0x1", "1_000", "NaN", "-NaN", "nan", "Infinity", "-Infinity"),
    *("1" * 40, "1." + "1" * 40, "1 ", " 1", "\t1\n", "\u00a01"),
]
WORDS = [
    *("null", "true", "false", "True", "[]", "[1]", "[[1]]", "{}", "1,2", ",", "1,", "]", "]]", "%b"),
    *("", " ", '"', '{"x":1}', '1],"data":[1', '1,"n":2'),
]
TEXTS = [
    *('"abc"', '""', '"a b"', '"a:b"', '"a,b"', '"a]b"', '"a}b"', '"50 %"', '"%b"', '"1.5"', '"NaN"', '"null"', '"data"'),
    *('"a\\"b"', '"a\\\\"', '"\\u00e9"', '"\\ud800"', '"\\ud83d\\ude00"', '"é😀"', '"a\x01b"', '"a\nb"', '"a\x7fb"'),
    *('"abc', 'abc"', '"a" "b"', "'abc'", '"\ufeff"', '"fail"', '"unseen"'),
]
BLANKS = ["", " ", "\t", "\n", "  \r\n", "\x0c", "\u00a0", "//"]
PIECES = [b"\x00", b"\xff", b"1", b"e", b"%", b"null", b'"data":[', b'"data": [1],', b'"id":"7",']
PIECES += [bytes([sign]) for sign in b' ,:"][}{\\']


def request(row: dict[str, str], blank: str = "", shape: str = "[1]", kinds: dict[str, str] = KINDS, more: str = "") -> bytes:
    """A request with a tensor for each value, which is JSON text (or ought to be)."""
    tensors = [
        f'{{"name":"{name}","shape":{shape},"datatype":"{kinds[name]}","data":{blank}[{value}]}}' for name, value in row.items()
    ]
    return f'{{"inputs":[{",".join(tensors)}]{more}}}'.encode()


GOOD = {name: json.dumps(value) for name, value in ROW.items()}
TURNED = dict(reversed(GOOD.items()))
MORE = [
    "",
    ',"outputs":[{"name":"prediction"}]',
    ',"outputs":[{"name":"scores"},{"name":"prediction"}]',
    ',"id":""',
    ',"parameters":{}',
]
LAYOUTS = [request(row, blank, more=more) for row in (GOOD, TURNED) for blank in ("", " ") for more in MORE[:3]]
"""Bodies that are sent first, so that what follows meets them."""


@dataclass
class Both:
    """A node that keeps layouts, one that never does, and how often the first one used one."""

    quick: Served
    general: Served
    read: int = 0


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both nodes, of which the first one knows `LAYOUTS`."""
    with (
        pytest.MonkeyPatch.context() as patch,
        served(tmp_path_factory.mktemp("quick"), default_slots) as quick,
        served(tmp_path_factory.mktemp("general"), default_slots) as general,
    ):
        found = Both(quick, general)
        theirs = general.node.predictor.at("open").resident.binder
        read = Layouts.read

        def counted(self: Layouts, body: bytes) -> Any:
            said = None if self._binder is theirs else read(self, body)
            found.read += said is not None
            return said

        patch.setattr(Layouts, "read", counted)
        yield found


def sent(body: bytes) -> bytes:
    """An HTTP request."""
    return (
        b"POST %b HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (
            PATH.encode(),
            len(body),
        )
        + body
    )


def asked(node: Served, body: bytes) -> tuple[int, dict[str, str], bytes, list[Any]]:
    """Status, headers, body and records of one request, without what differs from request to request."""
    since = len(node.spool.records)
    answer: Answered = node.exchange(sent(body))[0]
    identity = answer.headers["x-request-id"].encode()
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    records = [
        # A whole number for a float is kept as it was sent, or as the float that it means.
        (one._replace(ts=0, request_id="", latency_us=0, rows=[{**row, "x": float(row["x"] or 0)} for row in one.rows]))
        for one in node.spool.records[since:]
        if isinstance(one, MainRecord)
    ]
    return answer.status, headers, answer.body.replace(identity, b"ID"), records


def agree(both: Both, body: bytes) -> int:
    """Ask both nodes, which must say and keep the same; the status."""
    quick, general = asked(both.quick, body), asked(both.general, body)
    assert quick == general
    return quick[0]


def teach(both: Both) -> None:
    """Send the good ones, so that their layouts are known."""
    for body in LAYOUTS:
        assert both.quick.exchange(sent(body))[0].status == 200


@pytest.mark.parametrize("name", KINDS)
def test_every_value_that_is_written_in_any_way_has_one_answer(both: Both, name: str) -> None:
    """Numbers, texts and what is neither, in a tensor of each kind, in a layout that is known."""
    teach(both)
    before, taken = both.read, 0
    for value in (*NUMBERS, *WORDS, *TEXTS):
        taken += agree(both, request({**GOOD, name: value})) == 200
    assert both.read - before > 0
    assert taken > 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_bytes_are_changed_both_roads_say_the_same(both: Both, data: st.DataObject) -> None:
    """Values, blanks, shapes, datatypes, order, ids and bytes anywhere."""
    values = st.sampled_from([*NUMBERS, *WORDS, *TEXTS])
    row = {name: data.draw(st.just(GOOD[name]) | values) for name in data.draw(st.permutations(list(GOOD)))}
    kinds = KINDS
    if data.draw(st.booleans()):
        kinds = {name: data.draw(st.sampled_from([KINDS[name], "FP32", "INT8", "BOOL", "BYTES", "FP6%"])) for name in KINDS}
    body = bytearray(
        request(
            row,
            data.draw(st.sampled_from(["", " "])),
            data.draw(st.sampled_from(["[1]", "[1]", "[1,1]", "[2]", "[0]"])),
            kinds,
            data.draw(st.sampled_from([*MORE, ',"id":"7"', ',"parameters":{"binary_data_output":true}', ',"model_name":"open"'])),
        )
    )
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(PIECES))
    body += data.draw(st.sampled_from(BLANKS)).encode()
    agree(both, bytes(body))
    # The same once more: by now its own layout may be known.
    agree(both, bytes(body))


def test_changes_of_a_single_byte_are_seen_wherever_they_are(both: Both) -> None:
    """In every place of a known request, one of some bytes instead of what stands there; and each place left out."""
    teach(both)
    good, random_bytes = request(GOOD), random.Random(5)
    for at in range(len(good)):
        agree(both, good[:at] + good[at + 1 :])
        agree(both, good[:at] + random_bytes.choice(PIECES) + good[at + 1 :])
