"""The plan server over real TLS: long polls, reports, who may what, and the node's own client against it."""

from __future__ import annotations

import asyncio
import resource
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck.plan import DeploymentPlan, DeploymentReport, NodeReport, Plan
from quarterdeck_node.plan_client import PlanClient
from quarterdeck_node.settings import Settings
from quarterdeck_operator.board import Board
from quarterdeck_operator.bounds import FILES, BoundedProtocol, bounded
from quarterdeck_operator.identity import Guard, Identity, ReviewerTwin
from quarterdeck_operator.names import labels
from quarterdeck_operator.plan_server import MAX_REPORT_BYTES, MAX_WORDS, PlanServer, create_app, listen
from quarterdeck_operator.tls import Material, SecretStoreTwin, ensure, load, server_context
from quarterdeck_operator.world import ResourceKey
from tests.operator_objects import report
from tests.support import eventually

KEY = ResourceKey("shop", "late-flights")
PLAN = "late-flights-main-aaaaaaaaaa"
TOKEN, OTHER = "token-of-p-1", "token-of-another"
POD = Identity("shop", "p-1", "default", labels("late-flights", "main", "aaaaaaaaaa"))
FOREIGN = Identity("bank", "p-1", "default", labels("late-flights", "main", "aaaaaaaaaa"))


def plan(sequence: int, name: str = PLAN) -> Plan:
    """A plan with one deployment."""
    deployment = DeploymentPlan(name="late-flights", role="main", revision=1, active=None, resident=[])
    return Plan(node=name, sequence=sequence, store="s3://a/b", deployments=[deployment])


@dataclass
class Running:
    """A plan server in a thread."""

    board: Board
    material: Material
    context: ssl.SSLContext
    port: int
    woken: list[ResourceKey] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    def client(self, token: str = TOKEN, **more: Any) -> httpx.Client:
        """A client that trusts its authority and shows a token."""
        trust = ssl.create_default_context(cadata=self.material.ca)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, verify=trust, headers=headers, timeout=60, trust_env=False, **more)


@contextmanager
def running(protocol: type[BoundedProtocol] | None = None) -> Iterator[Running]:
    """A plan server that leads and knows two pods."""
    woken: list[ResourceKey] = []
    board = Board(woken.append)
    board.leading = True
    material = ensure(SecretStoreTwin(), ["127.0.0.1"], datetime.now(UTC))
    context = server_context(material)
    known = {TOKEN: POD, OTHER: FOREIGN} | {
        f"token-{number}": Identity("shop", f"p-{number}", "default", POD.labels) for number in range(1_000)
    }
    with ThreadPoolExecutor(4) as pool, listen("127.0.0.1", 0) as listener:
        server = PlanServer(create_app(board, Guard(ReviewerTwin(known), pool)), context, listener, protocol)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        thread.start()
        try:
            eventually(lambda: server.started)
            yield Running(board, material, context, listener.getsockname()[1], woken)
        finally:
            board.leading = False
            board.clear()
            server.stop()
            thread.join()


@pytest.fixture(name="served", scope="module")
def _served() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(name="http")
def _http(served: Running) -> Iterator[httpx.Client]:
    served.board.leading = True
    served.board.drop(KEY)
    served.woken.clear()
    with served.client() as client:
        yield client


def poll(http: httpx.Client, after: int = 0, wait: float = 0.0, name: str = PLAN) -> httpx.Response:
    """One poll."""
    return http.get(f"/plans/{name}", params={"after": after, "wait": wait})


def test_a_newer_plan_is_given_at_once_and_an_old_one_never(served: Running, http: httpx.Client) -> None:
    """204 says that there is nothing newer."""
    assert poll(http).status_code == 204
    served.board.publish(KEY, [plan(3)])
    answer = poll(http)
    assert Plan.model_validate_json(answer.content) == plan(3)
    assert poll(http, after=3).status_code == 204


def test_a_poll_that_waits_is_answered_when_a_plan_is_published(served: Running, http: httpx.Client) -> None:
    """Also when the deployment was not known before, as right after a start."""
    with ThreadPoolExecutor(1) as pool:
        for sequence in (3, 5):
            waiting = pool.submit(poll, http, sequence - 1, 30)
            eventually(lambda: served.board.polls)
            served.board.publish(KEY, [plan(sequence)])
            assert Plan.model_validate_json(waiting.result(10).content).sequence == sequence


def test_a_follower_answers_409_to_everything(served: Running, http: httpx.Client) -> None:
    """It knows nothing and must not seem to; polls that wait when the lead is lost end at once."""
    served.board.publish(KEY, [plan(3)])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(poll, http, 3, 30)
        eventually(lambda: served.board.polls)
        served.board.leading = False
        served.board.clear()
        assert waiting.result(10).status_code == 409
    answer = poll(http)
    assert (answer.status_code, answer.json()["code"], answer.headers["connection"]) == (409, "not-leading", "close")
    assert http.post("/nodes/p-1/report", content=report("p-1").model_dump_json()).status_code == 409


def test_a_report_is_kept_and_wakes_the_deployment(served: Running, http: httpx.Client) -> None:
    """Under the pod's own namespace and deployment."""
    sent = report("p-1", v1="ready")
    assert http.post("/nodes/p-1/report", content=sent.model_dump_json()).status_code == 204
    assert served.board.live(KEY) == [sent]
    assert served.woken == [KEY]


@pytest.mark.parametrize(
    ("token", "path", "status", "code"),
    [
        ("", f"/plans/{PLAN}", 401, "unauthenticated"),
        ("unknown", f"/plans/{PLAN}", 401, "unauthenticated"),
        (TOKEN, "/plans/late-flights-main-bbbbbbbbbb", 403, "forbidden"),
        (TOKEN, "/plans/late-flights-challenger-aaaaaaaaaa", 403, "forbidden"),
        (TOKEN, "/plans/other-main-aaaaaaaaaa", 403, "forbidden"),
        (TOKEN, f"/plans/{PLAN}?wait=61", 422, "invalid-input"),
        (TOKEN, f"/plans/{PLAN}?after=secret", 422, "invalid-input"),
        (TOKEN, "/docs", 404, "not-found"),
        (TOKEN, "/openapi.json", 404, "not-found"),
    ],
)
def test_nobody_gets_anothers_plan(served: Running, token: str, path: str, status: int, code: str) -> None:
    """Refusals are problem+json and repeat nothing of what was sent."""
    with served.client(token) as client:
        answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_the_same_pod_name_in_another_namespace_is_another_pod(served: Running, http: httpx.Client) -> None:
    """Its poll finds no plan and its report is not mixed with ours."""
    served.board.publish(KEY, [plan(3)])
    with served.client(OTHER) as foreign:
        assert poll(foreign).status_code == 204
        assert foreign.post("/nodes/p-1/report", content=report("p-1").model_dump_json()).status_code == 204
    assert served.board.live(KEY) == []


def _named(**update: Any) -> NodeReport:
    return report("p-1").model_copy(update=update)


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/nodes/p-2/report", report("p-2"), 403),
        ("/nodes/p-1/report", report("p-2"), 422),
        ("/nodes/p-1/report", report("p-1", "challenger"), 422),
        ("/nodes/p-1/report", _named(deployments=[DeploymentReport(name="other", role="main")]), 422),
    ],
    ids=["another's path", "another's name", "another role", "another deployment"],
)
def test_a_pod_reports_as_itself_only(served: Running, http: httpx.Client, path: str, sent: NodeReport, status: int) -> None:
    """No rollout turns on what a stranger says."""
    assert http.post(path, content=sent.model_dump_json()).status_code == status
    assert served.board.live(KEY) == []
    assert served.woken == []


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 422), (b'{"secret": 1}', 422), (b" " * (MAX_REPORT_BYTES + 1), 413)],
    ids=["no JSON", "no report", "large"],
)
def test_a_report_that_is_none_is_refused(http: httpx.Client, content: bytes, status: int) -> None:
    """Without a word of it."""
    answer = http.post("/nodes/p-1/report", content=content)
    assert answer.status_code == status
    assert "secret" not in answer.text


def test_a_report_with_endless_sentences_is_taken_shortened(served: Running, http: httpx.Client) -> None:
    """They go into the record and the status, which the API server would refuse for their size."""
    sent = report("p-1", v1="failed")
    (one,) = sent.deployments
    long = [version.model_copy(update={"reason": "why " * 50_000}) for version in one.versions]
    sent = sent.model_copy(update={"deployments": [one.model_copy(update={"versions": long})]})
    assert http.post("/nodes/p-1/report", content=sent.model_dump_json()).status_code == 204
    (heard,) = served.board.live(KEY)
    assert len(heard.deployments[0].versions[0].reason) == MAX_WORDS


def test_a_large_body_is_not_read_before_the_token(served: Running) -> None:
    """Whoever has none cannot fill our memory."""
    with served.client("unknown") as client:
        answer = client.post("/nodes/p-1/report", content=b" " * (MAX_REPORT_BYTES + 1))
    assert answer.status_code == 401


def test_there_are_files_enough_for_the_connections_of_thousands_of_nodes(served: Running) -> None:
    """The usual limit of 1,024 is raised, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == resource.RLIM_INFINITY or soft >= (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard))


_HEAD = f"POST /nodes/p-1/report HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 2000\r\n".encode()
_POLL = f"GET /plans/{PLAN} HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("first", "then"),
    [(b"", b""), (b"", _HEAD), (b"", _HEAD + b"\r\n{"), (_POLL, b"\r\n"), (_POLL + _POLL[:30], b""), (_POLL, _POLL[:30])],
    ids=["nothing", "half a head", "half a body", "blank lines after a request", "half of a second one", "and later"],
)
def test_whoever_does_not_come_to_the_point_is_cut_off(first: bytes, then: bytes) -> None:
    """With a token or without: a connection is worth a whole request in time."""
    with running(bounded(100, request_seconds=0.6)) as served:

        async def scene() -> bytes:
            async with _connected(served, first) as (reader, writer):
                answer = await reader.readline() if first else b""
                writer.write(then)
                await _rest(reader)
                return answer

        answer = asyncio.run(asyncio.wait_for(scene(), 60))
    assert answer == (b"HTTP/1.1 204 No Content\r\n" if first else b"")


def test_a_head_without_an_end_is_cut_off(served: Running) -> None:
    """The parser itself would take it all."""

    async def scene() -> bytes:
        async with _connected(served, _HEAD) as (reader, writer):
            with suppress(ConnectionError):
                for _ in range(2_000):
                    writer.write(b"x-more: " + b"y" * 1_000 + b"\r\n")
                    await writer.drain()
            return await _rest(reader)

    assert asyncio.run(asyncio.wait_for(scene(), 60)) == b""


def test_too_many_connections_are_ended_and_those_that_there_are_go_on() -> None:
    """A flood must not take the files that the API server's connections need."""
    with running(bounded(3)) as served:

        async def scene() -> tuple[bytes, bytes]:
            async with _connected(served) as (reader, writer), _connected(served), _connected(served):
                async with _connected(served, _POLL) as (beyond, _):
                    refused = await _rest(beyond)
                writer.write(_POLL)
                return refused, await reader.readline()

        assert asyncio.run(asyncio.wait_for(scene(), 60)) == (b"", b"HTTP/1.1 204 No Content\r\n")


@asynccontextmanager
async def _connected(served: Running, sent: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has sent so much."""
    trust = ssl.create_default_context(cadata=served.material.ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=trust)
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side ends it, in order or not."""
    try:
        return await reader.read()
    except (ConnectionError, ssl.SSLError):
        return b""


def test_a_renewed_certificate_counts_from_the_next_connection_on(served: Running, http: httpx.Client) -> None:
    """No restart, and connections that are open stay so."""
    assert poll(http).status_code == 204
    other = ensure(SecretStoreTwin(), ["127.0.0.1"], datetime.now(UTC))
    load(served.context, other)
    try:
        assert poll(http).status_code == 204
        with served.client() as client, pytest.raises(httpx.ConnectError):
            poll(client)
    finally:
        load(served.context, served.material)


async def _raw_poll(served: Running, trust: ssl.SSLContext, number: int) -> bytes:
    """One node's poll over a connection of its own; plain, for a pool of a thousand would be the slower half."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=trust)
    head = f"GET /plans/{PLAN}?after=1&wait=60 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    writer.write(f"{head}authorization: Bearer token-{number}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def test_a_thousand_nodes_wait_at_once_and_all_are_answered() -> None:
    """Each with a token and a connection of its own; while they wait, reports go through."""
    with running() as served:
        trust = ssl.create_default_context(cadata=served.material.ca)

        async def scene() -> list[bytes]:
            polls = [asyncio.create_task(_raw_poll(served, trust, number)) for number in range(1_000)]
            await asyncio.to_thread(eventually, lambda: served.board.polls == 1_000, 60)
            with served.client() as client:
                told = await asyncio.to_thread(client.post, "/nodes/p-1/report", content=report("p-1").model_dump_json())
            assert told.status_code == 204
            served.board.publish(KEY, [plan(3)])
            return await asyncio.gather(*polls)

        answers = asyncio.run(scene())
    assert [answer for answer in answers if not answer.endswith(plan(3).model_dump_json().encode())] == []


def test_the_nodes_own_client_gets_plans_and_reports(served: Running, http: httpx.Client, tmp_path: Path) -> None:
    """With the mounted authority and the projected token, as in a pod."""
    mounted = tmp_path / "plan"
    mounted.mkdir()
    (mounted / "ca.crt").write_text(served.material.ca)
    (tmp_path / "token").write_text(TOKEN)
    settings = Settings(
        node="p-1",
        plan=PLAN,
        folder=tmp_path,
        plan_server=served.url,
        plan_folder=mounted,
        node_token_file=tmp_path / "token",
    )
    taken: list[int] = []

    async def scene() -> None:
        client = PlanClient(settings, lambda plan: taken.append(plan.sequence), lambda: report("p-1"))
        client.start()
        try:
            await asyncio.to_thread(eventually, lambda: served.board.live(KEY))
            for sequence in (3, 5):
                served.board.publish(KEY, [plan(sequence)])
                await asyncio.to_thread(eventually, lambda number=sequence: taken and taken[-1] == number)
        finally:
            await client.close()

    asyncio.run(scene())
    assert taken == [3, 5]
