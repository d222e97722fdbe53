"""Children never outlive the one who started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from quarterdeck import lifeline
from tests.support import ROOT, eventually

WATCHES = """
import sys, time
from quarterdeck import lifeline
lifeline.watch(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""
# A parent that starts a tied child and waits; the child tells its process id.
STARTS = """
import subprocess, sys
child = "import os, time; from quarterdeck import lifeline; lifeline.die_with_parent(int(os.environ['PARENT']));"
child += "print(os.getpid(), flush=True); time.sleep(600)"
import os
subprocess.run([sys.executable, "-c", child], env={**os.environ, "PARENT": str(os.getpid())})
"""
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT / "core")}


def test_the_end_of_the_pipe_ends_the_process() -> None:
    """Even one that is busy with something else."""
    reading, writing = os.pipe()
    command = [sys.executable, "-c", WATCHES, str(reading)]
    with subprocess.Popen(command, pass_fds=[reading], stdout=subprocess.PIPE, env=ENVIRON) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert child.poll() is None
        os.close(writing)
        assert child.wait(60) == lifeline.PARENT_GONE
    os.close(reading)


def test_the_kernel_ends_the_child_of_a_killed_parent() -> None:
    """SIGKILL leaves the parent no time to tell anybody."""
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, env=ENVIRON) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    eventually(lambda: not alive(child))


def test_a_child_whose_parent_is_gone_already_ends_itself() -> None:
    """The parent may die before the child could ask the kernel."""
    code = "from quarterdeck import lifeline; lifeline.die_with_parent(1); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=ENVIRON, check=False)
    assert (done.returncode, done.stdout) == (lifeline.PARENT_GONE, b"")


def test_without_a_lifeline_nothing_is_watched() -> None:
    """A program that somebody starts by hand has none."""
    lifeline.watch(None)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
