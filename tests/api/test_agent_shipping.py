"""Records on their way from the spool to the store: nothing acknowledged is lost, nothing is read twice, whoever dies when."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from quarterdeck.errors import StorageError
from quarterdeck.plan import Plan
from quarterdeck.record_files import keys, read_main
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_node.agent.shipping import Shipper
from quarterdeck_node.spool import Spool
from tests.agents import AgentProcess, agent_in, framed, put, record, stamped
from tests.models import version_encoding_model
from tests.support import PROGRAMS, ROOT, eventually

# A store whose process dies right after its n-th object is stored, before anybody could note that.
DIES_AFTER = """
import os, signal, sys
from pathlib import Path
from quarterdeck.storage import open_storage
from quarterdeck_node.agent.shipping import Shipper

class Deadly:
    def __init__(self, url):
        self.storage, self.left = open_storage(url), int(sys.argv[2])
    def put(self, key, data):
        self.storage.put(key, data)
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

Shipper(Path(sys.argv[1]), opened=Deadly).ship()
"""


class SickStorage(MemoryStorage):
    """A store that fails while `sick`."""

    sick = True

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store, or fail as an unreachable endpoint does."""
        if self.sick:
            raise StorageError("The store cannot be reached.", code="unreachable")
        return super().put(key, data, if_absent=if_absent)


def node(folder: Path, store: str = "memory://unused") -> Path:
    """A node's folder with a plan."""
    (folder / "plan.json").write_text(Plan(node="main", sequence=1, store=store).model_dump_json())
    return folder


def shipper(folder: Path, storage: Storage) -> Shipper:
    """One that ships to a given store."""
    return Shipper(folder, opened=lambda _: storage)


def written(folder: Path, count: int, boot: str = "boot", close: bool = True) -> Spool:
    """Some records in the spool, several files of them."""
    spool = Spool(folder / "spool", boot, max_bytes=1500)
    for number in range(1, count + 1):
        put(spool, record(number))
    if close:
        spool.close()
    return spool


def sequences(storage: Storage) -> list[int]:
    """Sequence numbers of the rows that readers see."""
    found: list[int] = read_main(storage, "flights")["seq"].to_pylist()
    return found


def test_a_node_of_a_cluster_ships_under_its_namespace(tmp_path: Path) -> None:
    """Given a plan with a namespace, then its records lie beside those of a deployment of the same name, not among them."""
    storage = MemoryStorage()
    plan = Plan(node="main", sequence=1, store="memory://unused", namespace="shop")
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    written(tmp_path, 2)
    shipper(tmp_path, storage).ship()
    assert keys(storage, "flights", "main") == []
    assert read_main(storage, "shop.flights").num_rows == 2


def delivered(storage: Storage, files: int) -> bool:
    """Whether the store holds so many files."""
    return len(keys(storage, "flights", "main")) >= files


def test_finished_files_are_shipped_and_deleted(tmp_path: Path) -> None:
    """In the order of their sequences; what is being written stays."""
    storage = MemoryStorage()
    spool = written(node(tmp_path), 20)
    put(spool, record(21))
    assert shipper(tmp_path, storage).ship() > 1
    assert sequences(storage) == list(range(1, 21))
    assert [path.suffix for path in (tmp_path / "spool").iterdir()] == [".open"]


def test_an_orphan_is_finished_and_shipped_without_its_torn_frame(tmp_path: Path) -> None:
    """Its writer died in the middle of a write; that frame was never acknowledged."""
    storage = MemoryStorage()
    folder = node(tmp_path) / "spool"
    folder.mkdir()
    whole = b"".join(framed(number, record(number)) for number in range(1, 6))
    orphan = folder / "dead-00000000000000000001.open"
    orphan.write_bytes(whole + framed(6, record(6))[:-3])
    found = shipper(tmp_path, storage)
    found.ship()
    assert sequences(storage) == [1, 2, 3, 4, 5]
    assert found.shipped.torn_bytes == len(framed(6, record(6))) - 3
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "rows",
    [
        b'[{"number":1.5,"name":"\xc3\xa9"},{"number":null,"name":"b"}]',
        b' [ {"number" : 15e-1 ,\r\n "name":"\\u00e9"}\n,{ "number":NaN,"name":"b" } ] ',
        b'{"columns":{"number":[1.5,null],"name":["\xc3\xa9","b"]}}',
    ],
    ids=["compact", "as-a-person-writes", "columns"],
)
def test_rows_reach_the_store_whatever_text_their_door_put_down(tmp_path: Path, rows: bytes) -> None:
    """The spool keeps the caller's own text; readers see rows."""
    storage, spool = MemoryStorage(), Spool(node(tmp_path) / "spool", "boot")
    spool.write_main(stamped(record(1)), "r", "plain", 80, rows, b'[["yes",[0.5]],["no",[0.25]]]', 2, "mine", "k")
    spool.close()
    shipper(tmp_path, storage).ship()
    found = read_main(storage, "flights")
    assert [json.loads(text) for text in found["features_json"].to_pylist()] == [
        {"number": 1.5, "name": "é"},
        {"number": None, "name": "b"},
    ]
    assert found.select(["row_id", "prediction", "scores", "caller_id", "key_id", "latency_us"]).to_pylist() == [
        {
            "row_id": f"r-{row}",
            "prediction": f'"{label}"',
            "scores": [score],
            "caller_id": "mine",
            "key_id": "k",
            "latency_us": 80,
        }
        for row, (label, score) in enumerate([("yes", 0.5), ("no", 0.25)])
    ]


def test_a_newborn_file_is_left_alone(tmp_path: Path) -> None:
    """Empty and unlocked for the blink of an eye between open and lock."""
    folder = node(tmp_path) / "spool"
    folder.mkdir()
    (folder / "boot-00000000000000000001.open").touch()
    shipper(tmp_path, MemoryStorage()).ship()
    assert len(list(folder.iterdir())) == 1
    os.utime(folder / "boot-00000000000000000001.open", (0, 0))
    shipper(tmp_path, MemoryStorage()).ship()
    assert list(folder.iterdir()) == []


def test_damage_keeps_the_file_for_a_person(tmp_path: Path) -> None:
    """What is whole before the damage is shipped; the bytes after it are not thrown away."""
    storage = MemoryStorage()
    folder = node(tmp_path) / "spool"
    folder.mkdir()
    frames = [framed(number, record(number)) for number in (1, 2, 3)]
    damaged = b"".join([frames[0], b"?" + frames[1][1:], frames[2]])
    (folder / "boot-00000000000000000001.seg").write_bytes(damaged)
    found = shipper(tmp_path, storage)
    found.ship()
    assert sequences(storage) == [1]
    assert (folder / "boot-00000000000000000001.refused").read_bytes() == damaged
    assert found.shipped.refused == 1


def test_a_store_that_is_away_costs_nothing(tmp_path: Path) -> None:
    """Files stay and are shipped in their order when it is back."""
    storage = SickStorage()
    written(node(tmp_path), 20)
    before = sorted(path.name for path in (tmp_path / "spool").iterdir())
    found = shipper(tmp_path, storage)
    with pytest.raises(StorageError):
        found.ship()
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == before
    storage.sick = False
    found.ship()
    assert sequences(storage) == list(range(1, 21))


def test_without_a_plan_records_wait(tmp_path: Path) -> None:
    """The plan names the store; until it is there nothing is lost."""
    written(tmp_path, 3)
    with pytest.raises(StorageError, match="plan"):
        Shipper(tmp_path).ship()
    assert len(list((tmp_path / "spool").iterdir())) == 1


@pytest.mark.parametrize("puts", [1, 2, 4])
def test_death_between_put_and_delete_neither_loses_nor_doubles(tmp_path: Path, puts: int) -> None:
    """SIGKILL right after a PUT; the next agent writes the same names, and readers see every row once."""
    url = str(tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "node").mkdir()
    written(node(tmp_path / "node", url), 30)
    files = len(list((tmp_path / "node" / "spool").iterdir()))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PROGRAMS)}
    died = subprocess.run([sys.executable, "-c", DIES_AFTER, str(tmp_path / "node"), str(puts)], env=environ, check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "node" / "spool").iterdir())) == files - puts + 1
    Shipper(tmp_path / "node").ship()
    storage = open_storage(url)
    assert sequences(storage) == list(range(1, 31))
    assert len(keys(storage, "flights", "main")) == files


def test_the_program_ships_while_a_writer_lives_and_its_tail_when_told_to_end(tmp_path: Path) -> None:
    """Records arrive in the store by themselves; SIGTERM ships what serve left, and ends with 0."""
    (tmp_path / "store").mkdir()
    with agent_in(tmp_path / "node", str(tmp_path / "store")) as agent:
        storage = open_storage(agent.store)
        spool = written(agent.folder, 20)
        eventually(lambda: sequences(storage) == list(range(1, 21)))
        put(spool, record(21))
        spool.close()
        assert agent.terminate() == 0
        assert sequences(storage) == list(range(1, 22))
        assert agent.spooled() == []


def test_features_are_typed_once_the_package_is_here(tmp_path: Path) -> None:
    """The agent knows the schema of what it has in its cache."""
    (tmp_path / "store").mkdir()
    with agent_in(tmp_path / "node", str(tmp_path / "store")) as agent:
        storage = open_storage(agent.store)
        ref = version_encoding_model(1).push(storage)
        assert agent.ensure(ref).status_code == 200
        spool = Spool(agent.folder / "spool", "boot")
        put(spool, record(1, digest=ref.digest))
        spool.close()
        eventually(lambda: sequences(storage) == [1])
        assert read_main(storage, "flights")["features"].to_pylist() == [{"number": 1.0}]


def test_agents_that_are_killed_again_and_again_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL at random moments while records come in; the last agent delivers the rest."""
    (tmp_path / "store").mkdir()
    agent = AgentProcess(tmp_path / "node", str(tmp_path / "store"))
    spool = Spool(agent.folder / "spool", "boot", max_bytes=5_000)
    seeded = random.Random(7)
    storage = open_storage(agent.store)
    count = 0
    try:
        for _ in range(3):
            # As many as there were and some of those to come: what is put now is enough for that, however fast the agent is.
            wanted = len(keys(storage, "flights", "main")) + seeded.randrange(1, 8)
            agent.start(ship_poll=0.02)
            for _ in range(300):
                count += 1
                put(spool, record(count))
            eventually(partial(delivered, storage, wanted), every=0.001)
            agent.kill()
        spool.close()
        agent.start()
        eventually(lambda: agent.spooled() == [])
        assert agent.terminate() == 0
    finally:
        agent.close()
    assert sequences(storage) == list(range(1, count + 1))


def test_an_agent_does_not_outlive_its_lifeline(tmp_path: Path) -> None:
    """The end of the pipe ends the agent at once."""
    reading, writing = os.pipe()
    agent = AgentProcess(tmp_path / "node", str(tmp_path / "store"))
    try:
        agent.start(lifeline_fd=reading)
        os.close(writing)
        assert agent.process is not None
        assert agent.process.wait(60) == 70
    finally:
        agent.close()
        os.close(reading)
