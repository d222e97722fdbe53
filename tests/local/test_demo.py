"""The demo as a newcomer runs it, from training to rollback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.examples
def test_every_figure_of_the_demo_holds(tmp_path: Path) -> None:
    """It ends by itself with status 0, having shown who answered before, between and after."""
    environ = {**os.environ, "ONCE": "1", "PORT": "0", "DEMO_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.partition("before, between and after")[2]
    assert [line.split("version ")[1][0] for line in said.splitlines() if " version " in line] == ["1", "2", "1"]
    assert "Every figure holds." in said
