"""The real process: what it refuses to start with, how it ends, and what a kill -9 costs (nothing that was acknowledged)."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.deployer_kills import campaign
from tests.campaigns.forked_deployer import ForkedDeployer
from tests.deployer_process import DeployerProcess, healthy, prepare, start
from tests.deployer_world import NODE
from tests.support import eventually, free_port


def newer(folder: Path) -> None:
    """Leave a database that a newer program has migrated."""
    code = (
        "import sys; from pathlib import Path; from sqlalchemy import text; from quarterdeck_deployer.database import Database; "
        "d = Database(Path(sys.argv[1]) / 'deployer.db'); d.migrate(); "
        "exec('with d.writing.begin() as s: s.execute(text(\"UPDATE alembic_version SET version_num = 9999\"))')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def block_store(folder: Path) -> None:
    """A file lies where the store's folder should be."""
    (folder / "store").write_text("in the way")


REFUSALS = [
    ("no token", lambda folder: (folder / "token").unlink(), {}, "token"),
    ("short token", lambda folder: (folder / "node-token").write_text("short"), {}, "shorter than 32"),
    ("unusable store", block_store, {}, "store"),
    ("store of no kind", lambda folder: None, {"STORE": "ftp://somewhere"}, "store"),
    ("newer database", newer, {}, "9999"),
    ("wrong setting", lambda folder: None, {"LOG_LEVEL": "loud"}, "QUARTERDECK_LOG_LEVEL"),
]


@pytest.mark.parametrize(("title", "spoil", "settings", "words"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_refuses_to_start_with_one_clear_line(
    tmp_path: Path, title: str, spoil: object, settings: dict[str, str], words: str
) -> None:
    """Exit status 2, `error:` and `hint:` on standard error, no traceback."""
    prepare(tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    process = start(tmp_path, 0, **settings)
    assert process.wait(60) == 2
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert words in lines[0]


def test_port_in_use_is_named_and_nothing_is_touched(tmp_path: Path) -> None:
    """The second program ends with status 2 before it opens the database."""
    prepare(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        assert start(tmp_path, port).wait(60) == 2
    assert f"Port {port} of 127.0.0.1 is in use" in (tmp_path / "stderr").read_text()
    assert not (tmp_path / "deployer.db").exists()


def test_ends_at_once_although_nodes_wait(tmp_path: Path) -> None:
    """SIGTERM during a long poll: the poll is answered 204 and the exit status is 0."""
    prepare(tmp_path)
    deployer = DeployerProcess(tmp_path)
    deployer.up()
    waiting = http.client.HTTPConnection("127.0.0.1", deployer.port, timeout=90)
    waiting.request("GET", "/plans/main?after=1000&wait=60", headers={"authorization": f"Bearer {NODE}"})
    # Who came later has been answered: by then the poll is waited for.
    assert healthy(deployer.port)
    assert deployer.stop() == 0
    assert waiting.getresponse().status == 204
    waiting.close()


def test_end_of_the_lifeline_ends_it(tmp_path: Path) -> None:
    """When the writing end of the inherited pipe is gone, so is the deployer."""
    prepare(tmp_path)
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    environ = {"QUARTERDECK_DATA": str(tmp_path), "QUARTERDECK_PORT": str(free_port()), "QUARTERDECK_LIFELINE_FD": str(reading)}
    process = subprocess.Popen(
        [sys.executable, "-m", "quarterdeck_deployer"],
        env={**os.environ, **environ},
        pass_fds=[reading],
        stderr=subprocess.DEVNULL,
    )
    os.close(reading)
    eventually(lambda: healthy(int(environ["QUARTERDECK_PORT"])))
    os.close(writing)
    assert process.wait(60) != 0


def test_kill_at_random_moments_loses_no_acknowledged_action(tmp_path: Path) -> None:
    """Ten kills: every answered action is there and has ended, none was done twice, numbers are gapless, nodes converge."""
    outcome = campaign(tmp_path, ForkedDeployer(tmp_path), kills=10, seed=20261121)
    assert (outcome.lost, outcome.twice, outcome.gaps, outcome.audit_whole, outcome.converged) == (0, 0, 0, True, True)
    assert sum(outcome.ended.values()) == outcome.revisions
    assert outcome.acknowledged > 10
