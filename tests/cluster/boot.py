"""`python -m tests.cluster.boot FOLDER`: the first process of the node, in namespaces of its own.

It keeps the node's programs running and reaps what pods leave behind. When it dies the kernel ends every process, mount and
network device of the node with it, so there is nothing to be cleaned up one by one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.05
# What programs of the node write outside their folder; it is gone with the node.
_VOLATILE = ("/run", "/var/log", "/var/lib/cni")


def main() -> None:
    """Never returns; is ended by SIGKILL."""
    folder = Path(sys.argv[1])
    _run("mount", "--make-rshared", "/")
    for place in _VOLATILE:
        Path(place).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "tmpfs", place)
    Path("/run/lock").mkdir()
    _run("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    print("ready", flush=True)
    # Whoever started us now lays the cable, and says so by closing its end.
    sys.stdin.read()
    keep(folder, json.loads((folder / "programs.json").read_text()))


def keep(folder: Path, programs: list[dict[str, object]]) -> None:
    """Start each program when its time has come, and again a second after it ended."""
    logs = folder / "log"
    due = {str(program["name"]): 0.0 for program in programs}
    running: dict[int, str] = {}
    while True:
        for program in programs:
            name = str(program["name"])
            if name in due and time.monotonic() >= due[name] and _listens(program["after"]):
                command = program["command"]
                assert isinstance(command, list)
                running[_start(command, logs / name)] = name
                del due[name]
        while (ended := _reaped()) is not None:
            if ended in running:
                due[running.pop(ended)] = time.monotonic() + _RESTART_SECONDS
        time.sleep(_LOOK_SECONDS)


def _start(command: list[str], log: Path) -> int:
    # Not by `subprocess`, which reaps on its own account what nobody waits for, and then an end would go unseen.
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, str(log), write, 0o644)]
    return os.posix_spawnp(command[0], command, os.environ, file_actions=[*files, (os.POSIX_SPAWN_DUP2, 1, 2)], setsid=True)


def _reaped() -> int | None:
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return pid or None


def _listens(port: object) -> bool:
    if not isinstance(port, int) or port == 0:
        return True
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
