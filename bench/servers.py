"""What every server under measurement is to the comparison, and the peers: how each is started, and where it takes which work."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from bench import answers, processes, work
from bench.places import CACHE, PEERS, ROOT, RUNS, WORK, python_of, versions
from bench.work import Work

START_SECONDS = 120.0


class Cores(NamedTuple):
    """Where what runs."""

    server: int = 0
    load: int = 1


class Target(NamedTuple):
    """Where a server takes a work, and in which form."""

    path: str
    form: str
    media: str = "application/json"


@dataclass(frozen=True)
class Running:
    """A server that has given its first good answer.

    Args:
        url: without a path.
        measured: processes on the server's core; their memory is the server's.
        start_seconds: from starting them to the first good answer.
        helpers: processes of the server on another core.
        key: sent as X-API-Key.
        dropped: how many answered rows it has not recorded by now.
    """

    url: str
    measured: tuple[int, ...]
    start_seconds: float
    helpers: tuple[int, ...] = ()
    key: str = ""
    dropped: Callable[[], int] = lambda: 0

    def headers(self, media: str) -> dict[str, str]:
        """Of every request."""
        return {"content-type": media} | ({"x-api-key": self.key} if self.key else {})


class Server(Protocol):
    """Something that can be measured."""

    @property
    def name(self) -> str:
        """As tables call it."""

    @property
    def targets(self) -> Mapping[Work, Target]:
        """What it can be given."""

    @property
    def constant(self) -> bool:
        """Whether it answers a constant by design, so that there is nothing to compare."""

    @property
    def environment(self) -> str:
        """The peer's environment that it needs; empty: none but ours."""

    @property
    def single_model(self) -> bool:
        """Whether it holds one model a process: another model means another start."""

    def started(self, given: Work, cores: Cores) -> AbstractContextManager[Running]:
        """Start it for one work, on its core; it ends with the context."""


@dataclass(frozen=True)
class Peer:
    """A server of somebody else's.

    Args:
        command: words, with `{python}`, `{bin}`, `{port}`, `{run}` (a fresh folder), `{model}` and `{cache}` filled in.
        prepare: called with the fresh folder and three free ports before the start.
        single_model: see `Server.single_model`.
        folder: where it is started.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    targets: Mapping[Work, Target]
    variables: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path, list[int]], None] = lambda folder, ports: None
    single_model: bool = False
    constant: bool = False
    folder: Path = ROOT

    @contextmanager
    def started(self, given: Work, cores: Cores) -> Iterator[Running]:
        """See `Server.started`.

        Raises:
            WrongAnswer, TimeoutError, ChildProcessError: it did not come up, or answers wrongly.
        """
        ports = [processes.free_port() for _ in range(3)]
        with run_folder(self.name) as folder:
            self.prepare(folder, ports)
            model = "booster" if given == "booster" else "pipe"
            python = python_of(self.environment)
            words = {"python": python, "bin": python.parent, "port": ports[0], "run": folder, "model": model, "cache": CACHE}
            variables = {
                "BENCH_WORK": str(WORK),
                "PORT": str(ports[0]),
                "MODEL": model,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
                **self.variables,
            }
            started = time.monotonic()
            process = processes.start(
                [word.format(**words) for word in self.command],
                core=cores.server, folder=self.folder, log=folder / "log", variables=variables,
            )  # fmt: skip
            try:
                running = Running(f"http://127.0.0.1:{ports[0]}", (process.pid,), 0.0)
                first_answer(self, running, given, [process])
                yield Running(running.url, running.measured, time.monotonic() - started)
            except (TimeoutError, ChildProcessError) as error:
                raise type(error)(f"{error}; it said: {tail(folder / 'log')}") from None
            finally:
                processes.stop([process])


@contextmanager
def run_folder(name: str) -> Iterator[Path]:
    """A folder for one life of a server, removed afterwards."""
    RUNS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=RUNS))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def first_answer(server: Server, running: Running, given: Work, started: list[processes.Process]) -> None:
    """Wait until the server answers a work with 200.

    Raises:
        TimeoutError: not within two minutes.
        ChildProcessError: a process of it ended.
        WrongAnswer: it refuses what it is sent.
    """
    target = server.targets[given]
    body = bodies(target, given)[0]
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in started):
            raise ChildProcessError(f"{server.name} ended instead of answering")
        try:
            status, *_ = answers.post(running.url + target.path, body, running.headers(target.media), 10.0)
        except OSError:
            status = 0
        if status == 200:
            return
        if status == 422:
            raise answers.WrongAnswer(f"{server.name} does not take the form {target.form}")
        time.sleep(0.01)
    raise TimeoutError(f"{server.name} has not answered within {START_SECONDS:.0f} s")


def bodies(target: Target, given: Work) -> list[bytes]:
    """The bodies that a target is sent."""
    data = work.body_file(target.form, given).read_bytes()
    return [data] if given == "batch" else data.split(b"\n")


def check_answers(server: Server, running: Running, given: Work) -> float:
    """Ask for everything that will be asked for; the largest difference to the original model.

    Raises:
        WrongAnswer: an answer is not 200 with the scores that are expected.
    """
    target, largest = server.targets[given], 0.0
    wanted = work.expected(given)
    for place, body in enumerate(bodies(target, given)):
        status, media, answer = answers.post(running.url + target.path, body, running.headers(target.media))
        if status != 200:
            raise answers.WrongAnswer(f"{server.name} answered {status}: {answer[:200]!r}")
        if not server.constant:
            part = wanted if given == "batch" else wanted[place : place + 1]
            largest = max(largest, answers.difference(media, answer, part))
    return largest


def tail(log: Path) -> str:
    """The last that a server said."""
    return log.read_text(errors="replace").strip()[-600:] if log.is_file() else ""


def _mlserver(**batching: float) -> Callable[[Path, list[int]], None]:
    def prepare(folder: Path, ports: list[int]) -> None:
        names = ("http_port", "grpc_port", "metrics_port")
        settings = {"debug": False, "host": "127.0.0.1", "parallel_workers": 0, **dict(zip(names, ports, strict=True))}
        _write(folder / "settings.json", settings)
        runtimes = {
            "pipe": ("mlserver_sklearn.SKLearnModel", "pipe.joblib"),
            "booster": ("mlserver_lightgbm.LightGBMModel", "booster.txt"),
        }
        for name, (implementation, file) in runtimes.items():
            model = {"name": name, "implementation": implementation, "parameters": {"uri": str(WORK / file)}, **batching}
            _write(folder / name / "model-settings.json", model)

    return prepare


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def _mlflow(_folder: Path, _ports: list[int]) -> None:
    """Save the models once for these models and this MLflow; that is no part of its start."""
    target, mark = CACHE / "mlflow-models", (WORK / "mark").read_text() + str(versions(python_of("mlflow"), "mlflow"))
    if (target / "mark").is_file() and (target / "mark").read_text() == mark:
        return
    shutil.rmtree(target, ignore_errors=True)
    command = [python_of("mlflow"), PEERS / "mlflow_models.py", target]
    variables = {"BENCH_WORK": str(WORK), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildProcessError(f"MLflow could not save its models: {done.stderr[-600:]}")
    (target / "mark").write_text(mark)


def _targets(form: str, single: str, batch: str, booster: str) -> dict[Work, Target]:
    return {"single": Target(single, form), "batch": Target(batch, form), "booster": Target(booster, form)}


def _uvicorn(application: str, *more: str) -> tuple[str, ...]:
    quiet = ("--no-access-log", "--log-level", "warning")
    return (
        "{python}",
        "-m",
        "uvicorn",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        *quiet,
        *more,
        f"bench.peers.{application}:app",
    )


def _bentoml(service: str) -> tuple[str, ...]:
    return ("{bin}/bentoml", "serve", f"bentoml_service:{service}", "--port", "{port}", "--host", "127.0.0.1")


_OWN = _targets("record", "/predict", "/batch", "/booster")
_V2 = _targets("v2", "/v2/models/pipe/infer", "/v2/models/pipe/infer", "/v2/models/booster/infer")
_V1 = _targets("instances", "/v1/models/pipe:predict", "/v1/models/pipe:predict", "/v1/models/booster:predict")
_BENTO = _targets("records", "/predict", "/predict", "/booster")
_RECORDS = _targets("records", "/predict", "/predict", "/predict")
_MLFLOW = _targets("split", "/invocations", "/invocations", "/invocations")
_LITSERVE = ("{python}", str(PEERS / "litserve_server.py"))
_MLFLOW_SERVE = (
    "{bin}/mlflow", "models", "serve", "-m", "{cache}/mlflow-models/{model}", "--env-manager", "local",
    "-h", "127.0.0.1", "-p", "{port}", "--workers", "1",
)  # fmt: skip
_BENTO_VARIABLES = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(CACHE / "bentoml-home")}
_RAY_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}

PEERS_BY_NAME: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("bare", "base", _uvicorn("bare", "--loop", "uvloop", "--http", "httptools"), _OWN, constant=True),
        Peer("fastapi-noop", "base", _uvicorn("fastapi_noop"), _OWN, constant=True),
        Peer("naive", "base", _uvicorn("naive"), _OWN),
        Peer("mlserver", "mlserver", ("{bin}/mlserver", "start", "{run}"), _V2, prepare=_mlserver()),
        Peer(
            "mlserver-batch", "mlserver", ("{bin}/mlserver", "start", "{run}"), _V2,
            prepare=_mlserver(max_batch_size=64, max_batch_time=0.002),
        ),
        Peer("kserve", "kserve", ("{python}", str(PEERS / "kserve_server.py")), _V1),
        Peer("bentoml", "bentoml", _bentoml("Plain"), _BENTO, _BENTO_VARIABLES, folder=PEERS),
        Peer("bentoml-batch", "bentoml", _bentoml("Batched"), _BENTO, _BENTO_VARIABLES, folder=PEERS),
        Peer("litserve", "litserve", _LITSERVE, _RECORDS, single_model=True),
        Peer("litserve-batch", "litserve", _LITSERVE, _RECORDS, {"BATCH": "64"}, single_model=True),
        Peer("mlflow", "mlflow", _MLFLOW_SERVE, _MLFLOW, prepare=_mlflow, single_model=True),
        Peer("ray", "ray", ("{python}", str(PEERS / "ray_server.py")), _targets("records", "/", "/", "/"), _RAY_VARIABLES),
    )
}  # fmt: skip
"""Everybody else, by the name that tables use. `-batch`: with the peer's own adaptive batching."""
BATCHING = ("mlserver-batch", "bentoml-batch", "litserve-batch")
NOT_BATCHING = ("mlserver", "kserve", "bentoml", "litserve", "mlflow", "ray")
