"""Shell scripts and the Makefile: they parse, they are strict, and every target says what it is for."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

HEAD = "#!/usr/bin/env bash"
TARGET = re.compile(r"^([a-z][a-z-]*):(?!=)", re.MULTILINE)
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = sorted(set(TARGET.findall(MAKEFILE)))


def shell_scripts() -> list[Path]:
    """Every committed file that bash runs."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return [path for path in paths if path.read_bytes().startswith(b"#!") and b"bash" in path.read_bytes().split(b"\n")[0]]


SCRIPTS = shell_scripts()


def test_there_are_scripts() -> None:
    """The table below is not empty by accident."""
    assert {ROOT / "tools" / "setup", ROOT / "tools" / "lock", ROOT / ".ci" / "run"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_parses_and_is_strict(script: Path) -> None:
    """bash reads it whole; a failing command ends it, or is counted where all must be tried; it may be run as it is."""
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = script.read_text().splitlines()
    assert lines[0] == HEAD
    assert {"set -euo pipefail", "set -uo pipefail", "set -e"} & set(lines)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", [path for path in SCRIPTS if "tools" in path.parts], ids=lambda path: path.name)
def test_a_script_says_what_it_does(script: Path) -> None:
    """Its second line is a sentence for people."""
    assert re.match(r"# \S.+", script.read_text().splitlines()[1])


def test_help_lists_every_target_with_its_meaning() -> None:
    """What can be made is what `make` alone prints."""
    said = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", said, re.MULTILINE))
    assert sorted(listed) == TARGETS
    assert all(len(words) > 10 for words in listed.values())


def test_every_target_is_phony() -> None:
    """A file that happens to be called `test` or `clean` changes nothing."""
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert sorted(phony.split()) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_a_recipe_runs_what_exists(target: str) -> None:
    """Scripts and modules that a target names are there, and make itself has nothing against it."""
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n?)*)", MAKEFILE, re.MULTILINE)
    assert recipe
    for script in re.findall(r"(?<![\w./-])tools/[\w/-]+", recipe[1]):
        assert (ROOT / script).is_file(), script
    for module in re.findall(r"-m ((?:tools|demo|tests|bench)[\w.]*)", recipe[1]):
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_ci_runs_what_people_run() -> None:
    """Only targets that exist, so that whatever fails there can be repeated here."""
    named = re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / ".ci" / "run").read_text())
    assert named
    assert set(named) <= set(TARGETS)
