"""The deployer's program in a process that is forked with everything imported: up within a second, and killed as any other.

What a kill meets is what runs, not what is imported: `main` begins with reading its settings, migrates, listens and serves as
ever, in a process of its own. Only the seconds of importing are paid once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from quarterdeck_deployer.__main__ import main
from tests.deployer_process import healthy
from tests.support import eventually, free_port

# What uvicorn would import only while it starts belongs to what is there already.
_KNOWN = ("uvicorn.loops.auto", "uvicorn.lifespan.on", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto")


@dataclass
class ForkedDeployer:
    """One deployer that may die; everything it knows lies in `folder`."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: BaseProcess | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start, and wait until it answers."""
        context = multiprocessing.get_context("forkserver")
        # Done once: later calls find the server running.
        context.set_forkserver_preload([__name__, *_KNOWN])
        self._process = context.Process(target=_run, args=(self.folder, self.port))
        self._process.start()
        eventually(lambda: healthy(self.port), 60)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.join(20)
        assert self._process.exitcode is not None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        self._process.join(20)
        assert self._process.exitcode is not None
        return self._process.exitcode


def _run(folder: Path, port: int) -> None:
    os.environ.update({"QUARTERDECK_DATA": str(folder), "QUARTERDECK_PORT": str(port)})
    with (folder / "stderr").open("a") as log:
        os.dup2(log.fileno(), 2)
    sys.exit(main())
