"""Linter, formatter and type checker as processes that may run beside the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache, partial

from quarterdeck.lifeline import die_with_parent
from tests.support import ROOT

TYPES = ("mypy",)
CHECKERS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), TYPES)


@cache
def begun(checker: tuple[str, ...]) -> subprocess.Popen[str]:
    """The checker's process, started with the first call; its words are for one reader."""
    command = ["nice", "-n", "10", sys.executable, "-m", *checker]
    # Bound to this process: an aborted run leaves none behind.
    bound = partial(die_with_parent, os.getpid())
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=bound)
