"""The real deployer process: started, killed and started again on the same folder."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.deployer_world import ADMIN, MIRROR, NODE
from tests.support import ROOT, eventually, free_port

TOKEN_FILES = {"token": ADMIN, "node-token": NODE, "mirror-token": MIRROR}


def prepare(folder: Path) -> None:
    """Write the token files that `quarterdeck up` would write."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, token in TOKEN_FILES.items():
        (folder / name).write_text(token + "\n")


def start(folder: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    """Start the program; its standard error goes to ``stderr`` in the folder."""
    environ = {"DATA": str(folder), "PORT": str(port), **settings}
    with (folder / "stderr").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "quarterdeck_deployer"],
            stderr=log,
            text=True,
            cwd=ROOT,
            env={**os.environ, **{f"QUARTERDECK_{name}": value for name, value in environ.items()}},
        )


def healthy(port: int) -> bool:
    """Whether a deployer answers there. The cheapest client there is: it is asked often while a program starts."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    finally:
        connection.close()


@dataclass
class DeployerProcess:
    """One deployer that may die; everything it knows lies in `folder`, or where its `settings` say."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start, and wait until it answers."""
        self.process = start(self.folder, self.port, **self.settings)
        eventually(lambda: healthy(self.port))

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)
