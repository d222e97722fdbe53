"""The real programs, serve and agent: from a plan to answers, through drains and deaths."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import httpx
import pyarrow.parquet as pq
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quarterdeck.plan import DeploymentPlan, Plan
from quarterdeck.records import MainRecord, decode
from quarterdeck.storage import open_storage
from quarterdeck_node.grpc_door import open_inference_pb2 as pb
from tests.nodes import deployment, encoding, touchy
from tests.plan_server import TOKEN, PlanServer, plan_server
from tests.support import ROOT, eventually, free_port
from tests.touchy import HANGS

PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("core", "api_node", "."))


class Served:
    """A serve process in a node folder, with what it was told."""

    def __init__(self, folder: Path, variables: dict[str, str], fds: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.port = int(variables["QUARTERDECK_PORT"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "quarterdeck_node"],
            cwd=folder,
            env={**environment(), **variables},
            stderr=subprocess.PIPE,
            pass_fds=fds,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)

    def predict(self, value: float = 1.0) -> httpx.Response:
        """One plain record to the deployment `numbers`."""
        return self.client.post("/deployments/numbers/predict", json={"number": value})

    def ready(self) -> None:
        """Wait until it is."""
        eventually(lambda: self.client.get("/ready").status_code == 200)

    def recorded(self) -> set[str]:
        """Request ids that are in the spool's files, open ones included, or that the agent has shipped from them."""
        spooled = [frame.record for file in (self.folder / "spool").iterdir() for frame in decode(file.read_bytes())]
        # The store is read last: what leaves the spool meanwhile is there already.
        shipped = (self.folder.parent / "store" / "records").rglob("*.parquet")
        tables = [pq.ParquetFile(file).read(columns=["request_id"]) for file in shipped]
        found = {record.request_id for record in spooled if isinstance(record, MainRecord)}
        return found.union(*(table["request_id"].to_pylist() for table in tables))

    def end(self) -> None:
        """Kill it and let go of everything."""
        self.client.close()
        self.process.kill()
        self.process.communicate()


def environment() -> dict[str, str]:
    """What programs are started with: this process's environment and our packages."""
    return {**os.environ, "PYTHONPATH": PATHS}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, PlanServer, list[DeploymentPlan]]]:
    """A node folder with its agent running, a plan server, and the deployments whose packages lie in the store."""
    base = tmp_path_factory.mktemp("programs")
    # Deeper than the path of a socket may be long: whoever finds a socket by its whole path fails here.
    folder = base / ("deep" * 30)
    folder.mkdir()
    store = open_storage(str(base / "store"))
    one, two, odd = encoding(1).push(store), encoding(2).push(store), touchy().push(store).model_copy(update={"trust": "code"})
    token = base / "node-token"
    token.write_text(TOKEN)
    variables = {"QUARTERDECK_NODE": "main", "QUARTERDECK_FOLDER": str(folder)}
    agent = subprocess.Popen(
        [sys.executable, "-m", "quarterdeck_node.agent"], cwd=folder, env={**environment(), **variables}, stderr=subprocess.PIPE
    )
    try:
        with plan_server() as server:
            eventually((folder / "agent.sock").exists)
            yield folder, server, [deployment(one, two), deployment(two, one, revision=2), deployment(odd, name="touchy")]
    finally:
        agent.terminate()
        agent.communicate()


def plan(folder: Path, sequence: int, *deployments: DeploymentPlan) -> Plan:
    """A plan whose store is beside the node's folder."""
    return Plan(node="main", sequence=sequence, store=str(folder.parent / "store"), deployments=list(deployments))


@contextmanager
def served(folder: Path, server: PlanServer | None = None, fds: tuple[int, ...] = (), **more: str) -> Iterator[Served]:
    """A serve process of the node folder, ended at the end."""
    told = {
        "NODE": "main",
        "PORT": str(free_port()),
        "FOLDER": str(folder),
        "DRAIN_SECONDS": "1",
        "NODE_TOKEN_FILE": str(folder.parent / "node-token"),
        **more,
    }
    if server is not None:
        told["PLAN_SERVER"] = server.url
    found = Served(folder, {f"QUARTERDECK_{name}": value for name, value in told.items()}, fds)
    try:
        yield found
    finally:
        found.end()


def test_plans_arrive_and_are_acknowledged(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """By long poll; reports say what is resident and active; an older plan changes nothing; the stored one serves alone."""
    folder, server, (first, second, _) = parts
    with served(folder, server) as node:
        eventually(lambda: not server.newest().ready)
        server.publish(plan(folder, 5, first))
        node.ready()
        eventually(lambda: [one.state for one in server.newest().deployments[0].versions] == ["ready", "ready"])
        assert node.predict().json()["version"] == 1
        server.publish(plan(folder, 6, second))
        eventually(lambda: server.newest().deployments[0].active == encoding(2).manifest.digest)
        assert (node.predict().json()["version"], server.newest().sequence) == (2, 6)
        server.publish(plan(folder, 4, first))
        seen = len(server.reports)
        eventually(lambda: len(server.reports) > seen + 1)
        assert (node.predict().json()["version"], server.newest().sequence) == (2, 6)
    with served(folder) as node:
        node.ready()
        assert node.predict().json()["version"] == 2
        assert (folder / "plan.json").stat().st_mode & 0o077 == 0


def test_a_drain_loses_nothing(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """Clients on kept and on new connections get an answer to everything until the door is closed; all of it is recorded."""
    folder, _, (first, *_) = parts
    (folder / "plan.json").write_bytes(plan(folder, 10, first).model_dump_json().encode())
    with served(folder) as node:
        node.ready()
        leaving = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(_ask_until_closed, node.port, leaving) for _ in range(4)]
            eventually(lambda: len(node.recorded()) > 50)
            node.process.send_signal(signal.SIGTERM)
            eventually(lambda: node.client.get("/ready").json()["draining"])
            # During the drain the node is still ready, says so, and asks for the connection to be closed.
            answer = node.client.get("/ready")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            node.process.send_signal(signal.SIGTERM)
            leaving.set()
            answered = [one for client in clients for one in client.result()]
        assert node.process.wait(60) == 0
        assert len(answered) > 50
        eventually(lambda: set(answered) <= node.recorded())
        assert not list((folder / "spool").glob("*.open"))


def test_a_node_is_seen_to_leave_before_its_door_closes(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """When nobody asks any more, /ready says no and the door stays open; who comes then is answered, and it is ready again."""
    folder, _, (first, *_) = parts
    (folder / "plan.json").write_bytes(plan(folder, 11, first).model_dump_json().encode())
    with served(folder, DRAIN_SECONDS="4", LEAVE_SECONDS="60") as node:
        node.ready()
        node.process.send_signal(signal.SIGTERM)
        eventually(lambda: node.client.get("/ready").status_code == 503)
        assert node.client.get("/ready").json()["detail"] == "This node is about to close its door."
        assert node.predict().status_code == 200
        eventually(lambda: node.client.get("/ready").status_code == 200)
    with served(folder, DRAIN_SECONDS="0.5", LEAVE_SECONDS="1") as node:
        node.ready()
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(60) == 0


def test_a_drain_loses_no_call_over_grpc(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """Health says first that the node leaves, calls are answered until the door closes, and whoever watches holds up nothing."""
    folder, _, (first, *_) = parts
    (folder / "plan.json").write_bytes(plan(folder, 12, first).model_dump_json().encode())
    port = free_port()
    with served(folder, GRPC_PORT=str(port)) as node, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        node.ready()
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=120)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        leaving = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(_call_until_closed, port, leaving) for _ in range(4)]
            eventually(lambda: len(node.recorded()) > 50)
            node.process.send_signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            leaving.set()
            answered = {one for client in clients for one in client.result()}
        # Sooner than the time that calls are given to finish.
        assert node.process.wait(60) == 0
        assert list(watch) == []
        eventually(lambda: answered <= node.recorded())


def _call_until_closed(port: int, leaving: threading.Event) -> list[str]:
    """As `_ask_until_closed`, over gRPC."""
    found: list[str] = []
    request = pb.ModelInferRequest(model_name="numbers")
    request.inputs.add(name="number", datatype="FP64", shape=[1], contents={"fp64_contents": [1.0]})
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        while True:
            try:
                found.append(infer(request, timeout=60).id)
            except grpc.RpcError as error:
                if leaving.is_set() and error.code() == grpc.StatusCode.UNAVAILABLE:
                    return found
                raise


def _ask_until_closed(port: int, leaving: threading.Event) -> list[str]:
    """Request ids of the answers up to the moment when no connection is taken any more.

    Raises:
        httpx.HTTPError: a request that was sent was not answered, or a connection was refused before the node left.
    """
    found: list[str] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        while True:
            try:
                answer = client.post("/deployments/numbers/predict", json={"number": 1.0})
            except httpx.ConnectError:
                if leaving.is_set():
                    return found
                raise
            assert answer.status_code == 200
            found.append(answer.json()["request_id"])


def test_kill_9_loses_no_answered_record(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """Whatever was answered before is in the spool after."""
    folder, _, (first, *_) = parts
    (folder / "plan.json").write_bytes(plan(folder, 11, first).model_dump_json().encode())
    with served(folder) as node:
        node.ready()
        answered = [node.predict(float(number)).json()["request_id"] for number in range(20)]
        node.process.kill()
        node.process.wait(60)
        eventually(lambda: set(answered) <= node.recorded())


def test_serve_and_its_model_processes_end_with_their_lifeline(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """The pipe's end of file ends serve, and serve's death ends the model's process."""
    folder, _, (*_, odd) = parts
    (folder / "plan.json").write_bytes(plan(folder, 12, odd).model_dump_json().encode())
    reading, writing = os.pipe()
    with served(folder, fds=(reading,), LIFELINE_FD=str(reading)) as node:
        os.close(reading)
        node.ready()
        [worker] = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
        os.close(writing)
        assert node.process.wait(60) != 0
        eventually(lambda: not Path(f"/proc/{worker}").exists())


def test_kill_9_ends_a_model_process_in_the_middle_of_its_work(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """Nobody is left to end it: the kernel does, whatever the model is at."""
    folder, _, (*_, odd) = parts
    (folder / "plan.json").write_bytes(plan(folder, 14, odd).model_dump_json().encode())
    with served(folder) as node, ThreadPoolExecutor(1) as pool:
        node.ready()
        [worker] = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
        asked = pool.submit(node.client.post, "/deployments/touchy/predict", json={"number": HANGS})
        # The scrape is one itself.
        eventually(lambda: "quarterdeck_inflight_requests 2.0" in httpx.get(f"http://127.0.0.1:{node.port}/metrics").text)
        node.process.kill()
        assert isinstance(asked.exception(), httpx.HTTPError)
        eventually(lambda: not Path(f"/proc/{worker}").exists())


def test_connections_that_bring_no_request_are_closed(parts: tuple[Path, PlanServer, list[DeploymentPlan]]) -> None:
    """Silent, half a head, one byte now and then, a head without end: closed, while good requests are answered."""
    folder, _, (first, *_) = parts
    (folder / "plan.json").write_bytes(plan(folder, 13, first).model_dump_json().encode())
    with served(folder, RECEIVE_SECONDS="1") as node:
        node.ready()
        head = b"POST /deployments/numbers/predict HTTP/1.1\r\nhost: x\r\n"
        for sent in (b"", head, head + b"x-long: " + b"x" * 10_000_000):
            with socket.create_connection(("127.0.0.1", node.port)) as slow:
                slow.settimeout(60)
                with suppress(ConnectionError):
                    slow.sendall(sent)
                    assert slow.recv(100) == b""
        with socket.create_connection(("127.0.0.1", node.port)) as dripping:
            dripping.sendall(head)
            eventually(lambda: not _alive_after(dripping, b"x"), every=0.2)
        assert node.predict().status_code == 200


def _alive_after(connection: socket.socket, byte: bytes) -> bool:
    """Whether the other side still takes a byte and has not closed."""
    try:
        connection.sendall(byte)
        connection.setblocking(False)
        return connection.recv(100) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        connection.setblocking(True)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QUARTERDECK_PORT", "{taken}", "cannot be listened on"),
        ("QUARTERDECK_ROLE", "both", "QUARTERDECK_ROLE"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, variable: str, value: str, said: str) -> None:
    """Exit status 2, a line that names the setting or the port and one with the next step, and nothing half started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value = value.format(taken=taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "quarterdeck_node"],
            cwd=tmp_path,
            env={**environment(), variable: value},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert said in done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    assert list(tmp_path.iterdir()) == []


def test_a_taken_grpc_port_is_told_like_any_other(tmp_path: Path) -> None:
    """Exit status 2, and the setting is named; a failure inside would be told with a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "quarterdeck_node"],
            cwd=tmp_path,
            env={**environment(), "QUARTERDECK_PORT": "0", "QUARTERDECK_GRPC_PORT": str(taken.getsockname()[1])},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "hint: Choose another QUARTERDECK_GRPC_PORT." in done.stderr
    assert "Traceback" not in done.stderr
