"""The trial load ends whatever the package does, and the package finds there what it will find where it serves."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from quarterdeck.errors import PackageRefused
from quarterdeck_node.agent.trial import Tried, try_load
from tests.code_models import UNRULY, unruly, with_code
from tests.support import eventually

MEMORY = 3 * 2**30


def tried(text: str, folder: Path, seconds: float = 60.0) -> Tried:
    """The trial of a package with this code."""
    built = with_code(unruly(), text)
    return try_load(built.manifest, built.write(folder / "package"), allow_code=True, seconds=seconds, memory_bytes=MEMORY)


def test_code_is_tried_as_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module is found in the folder that the agent was started in, and no bytecode is written."""
    (tmp_path / "strangers_module.py").write_text("")
    monkeypatch.chdir(tmp_path)
    demand = """
import sys
assert sys.flags.safe_path and sys.dont_write_bytecode
try:
    import strangers_module
except ImportError:
    pass
else:
    raise AssertionError
"""
    found = tried(demand + UNRULY, tmp_path)
    assert found.load_seconds > 0
    assert not list(tmp_path.rglob("__pycache__"))


def test_what_a_package_starts_ends_with_its_trial(tmp_path: Path) -> None:
    """A process that it left behind holds our pipe; nobody waits for it, and it is ended."""
    told = tmp_path / "pid"
    leaves = f"""
import os, pathlib, time
def load(folder):
    child = os.fork()
    if not child:
        time.sleep(3600)
    pathlib.Path({str(told)!r}).write_text(str(child))
    os._exit(0)
"""
    with pytest.raises(PackageRefused, match="took longer than"):
        tried(leaves, tmp_path, seconds=10.0)
    child = Path(f"/proc/{told.read_text()}/stat")
    eventually(lambda: not child.exists() or child.read_text().split()[2] == "Z")


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 1, f"signal {signal.SIGRTMIN + 1}")],
    ids=["named", "bare"],
)
def test_whatever_signal_ends_a_trial_is_told(tmp_path: Path, number: int, said: str) -> None:
    """By its name, or by its number where it has no name."""
    with pytest.raises(PackageRefused, match=f"was ended by {said}"):
        tried(f"import os\n\ndef load(folder):\n    os.kill(os.getpid(), {int(number)})\n", tmp_path)
