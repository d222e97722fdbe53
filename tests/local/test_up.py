"""`quarterdeck up`: what it starts, and what it refuses before it starts anything."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quarterdeck_cli import processes
from quarterdeck_cli.processes import Process
from tests.local.system import LocalSystem, cli
from tests.models import version_encoding_model
from tests.s3 import S3Server
from tests.support import eventually, free_ports

FIVE = {"deployer", "main", "main-agent", "challenger", "challenger-agent"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """A system in a folder that was empty; the first test of this file sees it as it has just come up."""
    with LocalSystem(tmp_path_factory.mktemp("up")) as started:
        yield started


def test_an_empty_folder_is_enough(system: LocalSystem) -> None:
    """Five children of one supervisor that begin without complaint, secrets for nobody else's eyes, URLs that lead somewhere."""
    assert system.note.children.keys() == FIVE
    assert all(system.answers(name) for name in FIVE)
    parents = {
        Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[1] for child in system.note.children.values()
    }
    assert parents == {str(system.pid)}
    for name in ("token", "node-token", "mirror-token", "supervisor.json"):
        assert stat.S_IMODE((system.home.folder / name).stat().st_mode) == 0o600
    # Nodes are started once the deployer answers, so their first words are no complaints.
    for name in ("main", "challenger"):
        assert "WARNING" not in system.home.log(name).read_text()
    assert f"{system.note.urls['console']}/login?token=" in eventually(lambda: system.log if "console" in system.log else "")


def test_ending_it_leaves_no_process_and_keeps_everything_else(tmp_path: Path) -> None:
    """SIGTERM stops all in order with status 0; the same folder starts again with what it knew."""
    with LocalSystem(tmp_path) as system:
        ref = system.publish(version_encoding_model(1))
        system.deploy("versions", ref)
        children = list(system.note.children.values())
        assert system.stop() == 0
        assert not any(map(processes.alive, children))
        assert system.home.note() is None
        system.start()
        with system.client() as client:
            assert client.deployment("versions")["wish"]["main"]["digest"] == ref.digest
            assert eventually(lambda: client.predict("versions", [{"number": 1.0}]), 90)["version"] == 1


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    """Who presses Ctrl-C twice has no patience left; nothing is left behind either way."""
    system = LocalSystem(tmp_path).start()
    # A child that cannot hear SIGTERM would be waited for; the second interrupt kills it.
    os.kill(system.child("main").pid, signal.SIGSTOP)
    children = list(system.note.children.values())
    supervisor = processes.identify(system.pid)
    assert supervisor is not None
    processes.send(supervisor, signal.SIGINT)
    eventually(lambda: "stopping" in system.log)
    processes.send(supervisor, signal.SIGINT)
    assert system.stop() == 0
    assert not any(map(processes.alive, children))


def test_a_port_in_use_is_named_with_its_holder_and_nothing_is_started(tmp_path: Path) -> None:
    """Exit status 2, the port, who holds it, which option helps, and a folder as empty as before."""
    first = free_ports(3)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", first + 1))
        holder.listen()
        done = cli(tmp_path, "up", "--port", str(first))
    assert done.returncode == 2
    assert f"error: Port {first + 1} is in use by pid {os.getpid()}" in done.stderr
    assert "--port" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_second_supervisor_is_refused_naming_the_first(system: LocalSystem) -> None:
    """The first one's pid and console; it goes on undisturbed."""
    done = cli(system.folder, "up", "--port", "0")
    assert done.returncode == 2
    assert f"pid {system.pid}" in done.stderr
    assert system.note.urls["console"] in done.stderr
    assert all(system.answers(name) for name in FIVE)


def test_of_many_started_at_once_one_wins(tmp_path: Path) -> None:
    """The others are refused, and the winner is the one that the note names."""
    systems = [LocalSystem(tmp_path) for _ in range(4)]
    for each in systems:
        each.spawn()
    eventually(lambda: systems[0].note.ready)
    (winner,) = [each for each in systems if each.pid == systems[0].note.supervisor.pid]
    losers = [each for each in systems if each is not winner]
    assert [each.wait() for each in losers] == [2, 2, 2]
    assert winner.stop() == 0


def test_a_program_that_does_not_come_up_is_named_with_its_log(tmp_path: Path) -> None:
    """Exit status 1, and all the others are stopped again."""
    (tmp_path / ".quarterdeck" / "deployer.db").mkdir(parents=True)
    done = cli(tmp_path, "up", "--port", "0")
    assert done.returncode == 1
    assert "error: deployer does not come up" in done.stderr
    assert "logs/deployer.log" in done.stderr
    assert not (tmp_path / ".quarterdeck" / "supervisor.json").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A mistyped --dir is not made up."""
    done = cli(tmp_path, "up", "--dir", "nowhere", "--port", "0")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_is_named_and_nothing_is_started(tmp_path: Path, s3: S3Server) -> None:
    """Exit status 2, the bucket's name, and no half start."""
    done = cli(tmp_path, "up", "--port", "0", "--store", s3.url("no-such-bucket-here"), environ=s3.environment())
    assert done.returncode == 2
    assert "no-such-bucket-here" in done.stderr
    assert "hint: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_serves_as_the_store(tmp_path: Path, s3: S3Server) -> None:
    """Packages are read from it and records arrive in it."""
    with LocalSystem(tmp_path, store=s3.url(s3.bucket(), "quarterdeck")) as system, system.client() as client:
        system.deploy("versions", system.publish(version_encoding_model(1)))
        request = client.predict("versions", [{"number": 1.0}])["request_id"]
        stored = eventually(lambda: client.predictions("versions"))
        assert [each["row_id"] for each in stored] == [f"{request}-0"]
        assert not (system.home.folder / "store").exists()


def test_wrong_credentials_are_named_and_nothing_is_started(tmp_path: Path, s3: S3Server) -> None:
    """Exit status 2, and never the credentials themselves."""
    bucket = s3.bucket()
    s3.set_credentials(secret="wrong-secret-of-a-test")
    try:
        done = cli(tmp_path, "up", "--port", "0", "--store", s3.url(bucket), environ=s3.environment())
    finally:
        s3.set_credentials()
    assert done.returncode == 2
    assert "credential" in done.stderr.lower()
    assert "wrong-secret-of-a-test" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_processes_die_with_a_killed_supervisor_and_the_folder_starts_again(tmp_path: Path) -> None:
    """kill -9 of the supervisor: children and the model's own process end by themselves, no stale lock, nothing lost."""
    system = LocalSystem(tmp_path).start()
    ref = system.publish(version_encoding_model(1, "skops"))
    revision = system.deploy("versions", ref)
    below = descendants(system.pid)
    assert len(below) > len(FIVE)
    system.kill()
    assert processes.wait_gone(below, 60.0) == []
    system.start()
    try:
        with system.client() as client:
            assert client.revisions("versions")[0]["number"] == revision
            assert eventually(lambda: client.predict("versions", [{"number": 1.0}]), 90)["digest"] == ref.digest
    finally:
        system.stop()


def test_leftovers_are_ended_by_pid_and_start_time_only(tmp_path: Path) -> None:
    """A recorded pid that somebody else has by now is left alone."""
    system = LocalSystem(tmp_path).start()
    system.kill()
    note = system.note
    me = processes.identify(os.getpid())
    assert me is not None
    note.children["main"] = Process(me.pid, "another-boot:1")
    system.home.write_note(note)
    system.start()
    assert system.stop() == 0
    assert processes.alive(me)


def test_each_killed_child_is_started_again(system: LocalSystem) -> None:
    """The others go on; the supervisor says what happened."""
    for name in sorted(FIVE):
        others = {other: child for other, child in system.note.children.items() if other != name}
        system.kill_child(name)
        assert {other: child for other, child in system.note.children.items() if other != name} == others
        assert f"{name} ended (signal 9)" in system.log


def test_a_broken_package_is_refused_by_name_and_the_old_version_serves_on(system: LocalSystem) -> None:
    """One byte changed in the store: the new version is refused naming file and reason, and answers keep coming."""
    one = system.publish(version_encoding_model(1))
    system.deploy("versions", one)
    built = version_encoding_model(2)
    two = system.publish(built)
    entry = built.manifest.file("trees-0.txt")
    blob = system.home.folder / "store" / "blobs" / "sha256" / entry.sha256
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    (system.folder / "two.yaml").write_text(YAML.format(version=2))
    done = cli(system.folder, "apply", "-f", "two.yaml", "--timeout", "60")
    assert done.returncode == 1
    assert "trees-0.txt" in done.stderr
    assert "versions v1 serves on" in done.stderr
    with system.client() as client:
        hold = client.deployment("versions")["observed"]["hold"]
        assert hold["code"] == "digest-mismatch"
        assert f"versions v{two.version} on node main: trees-0.txt" in hold["reason"]
        assert client.predict("versions", [{"number": 1.0}])["version"] == 1


def descendants(pid: int) -> list[Process]:
    """All processes below one, at any depth."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    below = {pid}
    for _ in parents:
        below |= {child for child, parent in parents.items() if parent in below}
    return [found for each in below - {pid} if (found := processes.identify(each))]


YAML = """\
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: versions}}
spec:
  model: {{name: versions, version: {version}}}
  access: public
"""
