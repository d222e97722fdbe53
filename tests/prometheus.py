"""Prometheus' own programs, fetched by the project's tool."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.support import ROOT


@cache
def programs() -> Path:
    """The folder of prometheus and promtool; fetched where they are not there yet."""
    found = subprocess.run([ROOT / "tools" / "prometheus"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip().splitlines()[-1])


def complaints(text: str) -> str:
    """What `promtool check metrics` says about a scrape; empty where it has nothing to say."""
    found = subprocess.run([programs() / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return (found.stdout + found.stderr).strip() or ("" if found.returncode == 0 else f"exit status {found.returncode}")
