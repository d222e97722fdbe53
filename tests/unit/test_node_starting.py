"""Before anything is served: the folder, the files, and what is said where it cannot begin."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from quarterdeck.errors import InvalidInput
from quarterdeck_node.agent.settings import AgentSettings
from quarterdeck_node.agent_client import HttpAgent
from quarterdeck_node.settings import Settings
from quarterdeck_node.starting import OTHER_FILES, prepare, refuse
from tests.support import PROGRAMS, ROOT


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """With all that lead to it; one that is there is left as it is."""
    prepare(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "plan.json").touch()
    prepare(tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["plan.json"]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing", "dangling"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, place: str) -> None:
    """With the variable that says where it is, and the reason."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(InvalidInput) as refused:
        prepare(tmp_path / place)
    assert (refused.value.code, refused.value.name) == ("folder-unusable", "QUARTERDECK_FOLDER")
    assert str(tmp_path / place) in refused.value.detail
    assert refused.value.hint


def test_a_refusal_is_two_lines_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, and the next step; without one only the first."""
    for hint, lines in (("Do that.", ["error: It is wrong.", "hint: Do that."]), ("", ["error: It is wrong."])):
        with pytest.raises(SystemExit) as ended:
            refuse(InvalidInput("It is wrong.", hint=hint))
        said = capsys.readouterr()
        assert (ended.value.code, said.err.splitlines(), said.out) == (2, lines, "")


@pytest.mark.parametrize("program", ["quarterdeck_node", "quarterdeck_node.agent"])
def test_no_program_starts_in_a_folder_that_cannot_be_used(tmp_path: Path, program: str) -> None:
    """Said in words, not in a trace."""
    (tmp_path / "file").touch()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PROGRAMS)}
    environ |= {"QUARTERDECK_FOLDER": str(tmp_path / "file"), "QUARTERDECK_PORT": "0"}
    done = subprocess.run([sys.executable, "-m", program], env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize(("soft", "cap", "expected"), [(256, 100, 100 + OTHER_FILES), (2_000, 100, 2_000), (256, 10**6, 4_000)])
def test_files_are_allowed_as_connections_need(soft: int, cap: int, expected: int) -> None:
    """Raised to what the cap needs, never lowered, and never beyond what the system allows."""
    code = (
        "import resource as r; from quarterdeck_node.starting import allow_files; "
        f"r.setrlimit(r.RLIMIT_NOFILE, ({soft}, 4000)); allow_files({cap}); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PROGRAMS)}
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 4_000
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == [str(expected), "4000"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "many", "PORT"),
        ("PORT", "65536", "PORT"),
        ("NODE", "No Name", "NODE"),
        ("ROLE", "both", "ROLE"),
        ("MAX_CONNECTIONS", "0", "MAX_CONNECTIONS"),
        ("SEND_SECONDS", "0", "SEND_SECONDS"),
        ("RECEIVE_SECONDS", "-1", "RECEIVE_SECONDS"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_not_repeated(name: str, value: str, said: str) -> None:
    """The variable is named; its value may be a secret that went astray."""
    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment({f"QUARTERDECK_{name}": value})
    assert f"QUARTERDECK_{said}" in refused.value.detail
    assert len(value) < 4 or value not in refused.value.detail


def test_limits_have_their_promised_defaults() -> None:
    """A thousand connections, ten seconds for a head, thirty to take an answer."""
    told = Settings.from_environment({})
    assert (told.max_connections, told.receive_seconds, told.send_seconds) == (1_024, 10.0, 30.0)
    assert Settings.from_environment({"QUARTERDECK_MAX_CONNECTIONS": "7"}).max_connections == 7
    assert AgentSettings.from_environment({}).folder == Path(".")


def test_an_agent_is_found_in_a_folder_of_any_depth(tmp_path: Path) -> None:
    """By the shorter way: a socket's whole path may be longer than the kernel takes."""
    assert _way(Path("agent")) == "agent/agent.sock"
    assert _way(Path.cwd() / ("deep" * 60)) == f"{'deep' * 60}/agent.sock"
    assert _way(Path("/x")) == "/x/agent.sock"


def _way(folder: Path) -> str:
    pool = HttpAgent(folder)._client._transport._pool  # type: ignore[attr-defined]
    return str(pool._uds)


@pytest.mark.parametrize("program", ["quarterdeck_node", "quarterdeck_node.agent", "quarterdeck_operator"])
def test_a_program_that_is_told_to_end_while_it_still_starts_ends_at_once(tmp_path: Path, program: str) -> None:
    """Given imports that take long, then SIGTERM ends it in good order: a container's first process has no default for it."""
    (tmp_path / "uvicorn.py").write_text("import sys\nprint('importing', flush=True)\nsys.stdin.read()\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *(str(ROOT / name) for name in PROGRAMS)])}
    command, pipe = [sys.executable, "-m", program], subprocess.PIPE
    with subprocess.Popen(command, env=environ, text=True, stdin=pipe, stdout=pipe) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "importing\n"
        started.terminate()
        assert started.wait(60) == 0
