"""Bad input of every kind at every door of a real node: nothing is answered 5xx, nothing is echoed, memory stays bounded.

    python -m tests.campaigns.fuzz --count 100000

Good requests of every dialect are broken at random, the same way for the same seed: bytes flipped, cut and doubled, values
exchanged for others, headers mistyped, and whole documents, tables and streams put together wrongly (`fuzz_shapes`). After
each thousand a good request must be answered as before. Exit status 1 on any miss.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from quarterdeck.plan import Plan
from quarterdeck.storage import open_storage
from quarterdeck_node.app import DOORS
from quarterdeck_node.grpc_door import open_inference_pb2 as pb
from quarterdeck_node.grpc_door.service import SERVICE
from tests.campaigns import fuzz_shapes
from tests.campaigns.fuzz_shapes import CANARY
from tests.nodes import binary, deployment
from tests.support import ROOT, eventually, free_port

COUNT = 100_000
NAME = "late"
ROW: dict[str, Any] = {"distance": 512.5, "hour": 7, "holiday": True, "carrier": "B6", "wind": 3.25}
THREADS = 4
_GROWTH = 64 * 2**20
_ARROW = "application/vnd.apache.arrow.stream"
_LENGTH = "inference-header-content-length"
_STATUSES_OF_GRPC = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "OK", "UNAUTHENTICATED"}


class Request(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Outcome:
    """What happened; `misses` must stay empty."""

    asked: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    misses: list[str] = field(default_factory=list)
    rss_before: int = 0
    rss_after: int = 0


def good() -> list[Request]:
    """A request of every dialect that is answered well."""
    typed = {"distance": "FP64", "hour": "INT64", "holiday": "BOOL", "carrier": "BYTES", "wind": "FP64"}
    tensors = [{"name": name, "shape": [1], "datatype": typed[name], "data": [value]} for name, value in ROW.items()]
    split = {"columns": list(ROW), "data": [list(ROW.values())]}
    columns = {name: [value] for name, value in ROW.items()}
    csv = (",".join(ROW) + "\n512.5,7,true,B6,3.25\n").encode()
    plain = f"/deployments/{NAME}/predict"
    documents: list[tuple[str, Any]] = [
        (plain, ROW),
        (plain, [ROW, ROW]),
        (f"/deployments/{NAME}/explain", [ROW]),
        (f"/v2/models/{NAME}/infer", {"id": "1", "inputs": tensors, "outputs": [{"name": "scores"}]}),
        (f"/v2/models/{NAME}/versions/1/infer", {"inputs": tensors}),
        (f"/v1/models/{NAME}:predict", {"instances": [ROW]}),
        (f"/v1/models/{NAME}/versions/1:predict", {"inputs": columns}),
        (f"/v1/models/{NAME}/labels/main:predict", {"instances": [list(ROW.values())], "signature_name": "scores"}),
        (f"/v1/models/{NAME}:explain", {"instances": [{**ROW, "carrier": {"b64": "QjY="}}]}),
        ("/invocations", {"dataframe_split": split}),
        ("/invocations", {"inputs": columns, "params": {"predict_method": "predict_proba"}}),
        ("/invocations", {"dataframe_records": [ROW]}),
        (f"/public/api/v1/{NAME}/{NAME}/predict", {"features": ROW, "explanations": {"enabled": True, "method": None}}),
        (f"/public/api/v1/{NAME}/{NAME}/predict-multi", {"items": [{"features": ROW}]}),
    ]
    found = [Request("POST", path, {"content-type": "application/json"}, json.dumps(body).encode()) for path, body in documents]
    found += [Request("POST", path, {"content-type": "text/csv"}, csv) for path in (plain, "/invocations")]
    return [*found, _binary(tensors), _arrow(plain)]


def _binary(tensors: list[dict[str, Any]]) -> Request:
    """The binary tensor extension."""
    parts, inputs = [], []
    for tensor in tensors:
        [value] = tensor["data"]
        text = value.encode() if isinstance(value, str) else b""
        packed = (
            struct.pack("<I", len(text)) + text
            if text
            else struct.pack({"FP64": "<d", "INT64": "<q"}.get(tensor["datatype"], "<?"), value)
        )
        parts.append(packed)
        inputs.append(
            {**{key: tensor[key] for key in ("name", "shape", "datatype")}, "parameters": {"binary_data_size": len(packed)}}
        )
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"content-type": "application/octet-stream", _LENGTH: str(len(head))}
    return Request("POST", f"/v2/models/{NAME}/infer", headers, head + b"".join(parts))


def _arrow(path: str) -> Request:
    import pyarrow as pa

    batch = pa.RecordBatch.from_pylist([ROW])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return Request("POST", path, {"content-type": _ARROW}, sink.getvalue().to_pybytes())


_VALUES: tuple[bytes, ...] = (
    *(b"null", b"true", b"-0", b"1e400", b"-1e400", b"NaN", b"Infinity", b"-Infinity", b"0x10", b"1_000", b"'x'", b"[]", b"{}"),
    *(b"1" * 400, b"1." + b"3" * 5_000, b"18446744073709551616", b"[[[[[[]]]]]]", b"[" * 2_000, b'{"a":' * 200),
    *(b'"' + CANARY.encode() + b'"', b'{"' + CANARY.encode() + b'":1}', b'"' + b"x" * 70_000 + b'"'),
    *(b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b'"\xed\xa0\x80"', b'"2020-13-45T99:99:99"'),
)
_HEADERS: tuple[tuple[str, str], ...] = (
    ("content-type", "application/xml"),
    ("content-type", f"{CANARY}/x"),
    ("content-type", "text/csv"),
    ("content-type", "application/vnd.apache.arrow.stream"),
    ("content-type", "application/octet-stream"),
    ("content-encoding", "gzip"),
    ("inference-header-content-length", "-1"),
    ("inference-header-content-length", "99999999999999999999"),
    ("inference-header-content-length", CANARY),
    ("quarterdeck-timeout", CANARY),
    ("quarterdeck-timeout", "-1"),
    ("quarterdeck-timeout", "1e999"),
    ("traceparent", f"00-{CANARY}-01"),
    ("x-request-id", "x" * 200),
    ("authorization", f"Bearer {CANARY}"),
    ("authorization", "Basic !!!"),
    ("authorization", "Basic " + base64.b64encode(b"\xff:" + CANARY.encode()).decode()),
    ("accept", f"{CANARY}/*"),
    ("x-long", "y" * 20_000),
)


def broken(chance: random.Random, request: Request) -> Request:
    """The request with one to three things wrong."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        request = chance.choice(_WAYS)(chance, request)
    return request


def _flip(chance: random.Random, request: Request) -> Request:
    body = bytearray(request.body)
    for _ in range(chance.randint(1, 8)):
        if body:
            body[chance.randrange(len(body))] = chance.randrange(256)
    return request._replace(body=bytes(body))


def _cut(chance: random.Random, request: Request) -> Request:
    return request._replace(body=request.body[: chance.randrange(len(request.body) + 1)])


def _double(chance: random.Random, request: Request) -> Request:
    start = chance.randrange(len(request.body) + 1)
    part = request.body[start : start + chance.randint(1, 200)]
    return request._replace(body=request.body[:start] + part * chance.choice((2, 2, 3, 500)) + request.body[start:])


def _exchange(chance: random.Random, request: Request) -> Request:
    """One scalar, name or list of the document becomes something else."""
    separators = [place for place, sign in enumerate(request.body) if sign in b":,[{"]
    if not separators:
        return request
    start = chance.choice(separators) + 1
    end = next((place for place in range(start, len(request.body)) if request.body[place] in b",]}:"), len(request.body))
    return request._replace(body=request.body[:start] + chance.choice(_VALUES) + request.body[end:])


def _insert(chance: random.Random, request: Request) -> Request:
    start = chance.randrange(len(request.body) + 1)
    return request._replace(body=request.body[:start] + chance.choice(_VALUES) + request.body[start:])


def _reshape(chance: random.Random, request: Request) -> Request:
    """Another structure, in the form that the request has."""
    media, length = request.headers.get("content-type"), request.headers.get(_LENGTH, "")
    if media == _ARROW:
        return request._replace(body=fuzz_shapes.stream(chance, ROW))
    if media == "text/csv":
        return request._replace(body=fuzz_shapes.table(chance, request.body))
    if not length.isdecimal():
        return request._replace(body=fuzz_shapes.document(chance, request.body))
    body, head = fuzz_shapes.tensors(chance, request.body, int(length))
    return request._replace(body=body, headers={**request.headers, _LENGTH: str(head)})


def _header(chance: random.Random, request: Request) -> Request:
    name, value = chance.choice(_HEADERS)
    return request._replace(headers={**request.headers, name: value})


def _elsewhere(chance: random.Random, request: Request) -> Request:
    """Another path, with names and versions that do not exist."""
    door = chance.choice(DOORS)
    path = door.path
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        name = chance.choice((NAME, NAME, "nobody", CANARY, "..%2f..", "%00", "1", "-1", "9" * 30, "main", "%ff"))
        path = path[:start] + name + path[end + 1 :]
    return request._replace(method=chance.choice((door.method, door.method, "GET", "POST")), path=path)


Way = Callable[[random.Random, Request], Request]
_WAYS: tuple[Way, ...] = (_flip, _cut, _double, _exchange, _exchange, _exchange, _insert, _header, _elsewhere, *[_reshape] * 6)


class Asker:
    """One connection that is opened anew where the node has closed it."""

    def __init__(self, port: int, outcome: Outcome, lock: threading.Lock) -> None:
        self._port, self._outcome, self._lock = port, outcome, lock
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, request: Request) -> tuple[int, bytes] | None:
        """Status and body; None where the node closed the connection over what it was sent."""
        for _ in range(2):
            try:
                self._connection.request(request.method, request.path, request.body, request.headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except TimeoutError:
                self._connection.close()
                raise
            # A connection may end between two requests, or over a body that is refused before it is read.
            except (http.client.HTTPException, OSError):
                self._connection.close()
        return None

    def judge(self, number: int, request: Request) -> None:
        """Ask one broken request and write down what came of it."""
        try:
            status, body = self.ask(request) or (0, b"")
        except TimeoutError:
            status, body = 599, b"nothing, for a minute"
        with self._lock:
            self._outcome.asked += 1
            self._outcome.statuses[f"{status // 100}xx" if status else "closed"] += 1
            what = f"request {number}: {request.method} {request.path[:80]} {request.headers.get('content-type')}"
            if status >= 500:
                self._outcome.misses.append(f"{what} was answered {status}: {body[:200]!r}")
            if CANARY.encode() in body and CANARY not in request.path and not _named(body):
                self._outcome.misses.append(f"{what} was echoed: {body[:200]!r}")


def _named(body: bytes) -> bool:
    """Whether an answer repeats the word as its id, or as the name of a column or input; values may not be repeated."""
    document = json.loads(body)
    problems = document.get("problems", []) if isinstance(document, dict) else []
    return any(CANARY in str(one.get(member, "")) for one in (document, *problems) for member in ("column", "name", "id"))


@contextmanager
def node(folder: Path) -> Iterator[tuple[int, int, int]]:
    """A real node with one public deployment: its process id, its HTTP port, its gRPC port."""
    store = folder / "store"
    ref = binary().push(open_storage(str(store)))
    home = folder / "node"
    home.mkdir()
    plan = Plan(node="main", sequence=1, store=str(store), deployments=[deployment(ref, name=NAME)])
    (home / "plan.json").write_text(plan.model_dump_json())
    port, grpc_port = free_port(), free_port()
    told = {"FOLDER": str(home), "PORT": str(port), "GRPC_PORT": str(grpc_port), "MAX_BODY_BYTES": str(2**20)}
    paths = os.pathsep.join(str(ROOT / part) for part in ("core", "api_node"))
    environ = {**os.environ, "PYTHONPATH": paths, **{f"QUARTERDECK_{name}": value for name, value in told.items()}}
    programs = [
        subprocess.Popen([sys.executable, "-m", module], cwd=home, env=environ, stderr=subprocess.DEVNULL)
        for module in ("quarterdeck_node.agent", "quarterdeck_node")
    ]
    try:
        eventually(lambda: _ready(port), 90)
        yield programs[1].pid, port, grpc_port
    finally:
        for program in reversed(programs):
            program.terminate()
            program.wait(60)


def _ready(port: int) -> bool:
    answer = Asker(port, Outcome(), threading.Lock()).ask(Request("GET", "/ready", {}, b""))
    return answer is not None and answer[0] == 200


def run(count: int, seed: int, folder: Path) -> Outcome:
    """Ask `count` broken requests, a tenth of them over gRPC."""
    outcome, lock = Outcome(), threading.Lock()
    with node(folder) as (pid, port, grpc_port):
        before = [_answered(port, request) for request in good()]
        outcome.misses += [
            f"good request {place} was answered {status}" for place, (status, _) in enumerate(before) if status != 200
        ]
        # The first thousand fill caches and pools; what grows after them is growth.
        for part, numbers in enumerate((range(1_000), range(1_000, count - count // 10))):
            _ask_all(port, numbers, seed, outcome, lock)
            if part == 0:
                outcome.rss_before = _rss(pid)
            outcome.misses += _same(port, before)
        _ask_grpc(grpc_port, count // 10, seed, outcome)
        outcome.misses += _same(port, before)
        outcome.rss_after = _rss(pid)
    if outcome.rss_after - outcome.rss_before > _GROWTH:
        outcome.misses.append(f"memory grew from {outcome.rss_before / 2**20:.0f} to {outcome.rss_after / 2**20:.0f} MiB")
    return outcome


def _ask_all(port: int, numbers: range, seed: int, outcome: Outcome, lock: threading.Lock) -> None:
    requests = good()

    def work(thread: int) -> None:
        asker = Asker(port, outcome, lock)
        for number in numbers[thread::THREADS]:
            # Each request by its own number: a miss can be asked again alone.
            chance = random.Random(f"{seed}-{number}")
            asker.judge(number, broken(chance, chance.choice(requests)))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ask_grpc(port: int, count: int, seed: int, outcome: Outcome) -> None:
    request = pb.ModelInferRequest(model_name=NAME)
    for name, value in ROW.items():
        datatype = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}[type(value)]
        text = str(value).encode()
        raw = (
            struct.pack("<I", len(text)) + text
            if datatype == "BYTES"
            else struct.pack({"FP64": "<d", "INT64": "<q"}.get(datatype, "<?"), value)
        )
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw)
    whole = request.SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", lambda data: data, pb.ModelInferResponse.FromString)
        for number in range(count):
            chance = random.Random(f"{seed}-grpc-{number}")
            body = chance.choice((_flip, _cut, _double))(chance, Request("", "", {}, whole)).body
            if chance.random() < 0.5:
                body = fuzz_shapes.message(chance, request)
            outcome.asked += 1
            status = _grpc_status(call, body)
            outcome.statuses[f"grpc {status}"] += 1
            if status not in _STATUSES_OF_GRPC:
                outcome.misses.append(f"gRPC request {number} was answered {status}")


def _grpc_status(call: Any, body: bytes) -> str:
    try:
        call(body, timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _answered(port: int, request: Request) -> tuple[int, Any]:
    """Status and, of a good answer, what a repetition must give again."""
    answer = Asker(port, Outcome(), threading.Lock()).ask(request)
    assert answer is not None
    status, body = answer
    try:
        document = json.loads(body)
    except ValueError:
        return status, body
    return status, {name: value for name, value in document.items() if name not in ("request_id", "id")} if isinstance(
        document, dict
    ) else document


def _same(port: int, before: list[tuple[int, Any]]) -> list[str]:
    now = [_answered(port, request) for request in good()]
    return [
        f"good request {place} is answered otherwise now"
        for place, pair in enumerate(zip(before, now, strict=True))
        if pair[0] != pair[1]
    ]


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=20)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        outcome = run(given.count, given.seed, Path(folder))
    print(f"{outcome.asked:,} bad requests in {time.monotonic() - started:.0f} s (seed {given.seed}): {dict(outcome.statuses)}")
    print(f"memory {outcome.rss_before / 2**20:.0f} MiB after the first thousand, {outcome.rss_after / 2**20:.0f} MiB at the end")
    for miss in outcome.misses[:20]:
        print(miss)
    print(f"{len(outcome.misses)} misses")
    sys.exit(1 if outcome.misses else 0)


if __name__ == "__main__":
    main()
