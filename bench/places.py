"""Where a comparison keeps its things, and the environments that it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
CACHE = ROOT / ".cache" / "bench"
"""Everything that a comparison makes: environments, models, bodies, results."""
WORK = CACHE / "work"
"""Models, request bodies and expected answers, the same for every server."""
RUNS = CACHE / "runs"
"""Folders of servers that run, removed when they end."""
PEERS = ROOT / "bench" / "peers"
"""The applications of the peers, each in the form that its own documentation recommends."""


def python_of(environment: str) -> Path:
    """The interpreter of a peer's environment."""
    return CACHE / environment / "bin" / "python"


def make_environments(*names: str) -> None:
    """Make the environments that are missing or older than their locks, and install wrk where it is missing.

    Raises:
        SystemExit: that failed; the tool has said why.
    """
    if subprocess.run([ROOT / "tools" / "bench-needs", *names], check=False).returncode:
        raise SystemExit(1)


def versions(python: Path, *distributions: str) -> dict[str, str]:
    """Distribution → version, as installed where this interpreter is; what is not installed is left out."""
    code = (
        "import sys\nfrom importlib import metadata\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        print(name, metadata.version(name))\n"
        "    except metadata.PackageNotFoundError:\n        pass\n"
    )
    command = [str(python), "-c", code, *distributions]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in said.splitlines())
