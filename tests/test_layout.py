"""Folders are where they belong, and none shadows a module of the standard library."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import PROGRAMS, ROOT


def committed() -> list[str]:
    """Paths of all files that git knows or would add, relative to the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return sorted(path for path in listed.split("\0") if path and (ROOT / path).is_file())


def test_operator_folder_holds_no_python() -> None:
    """An `__init__.py` in operator/ would break every Python that is started in the checkout."""
    assert [path.name for path in (ROOT / "operator").glob("*.py*")] == []


def test_python_started_in_the_checkout_finds_the_standard_operator() -> None:
    """`import operator, collections` gets the standard library's modules, without any site-packages to help."""
    code = "import operator, collections; print(operator.__file__)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.startswith(str(ROOT))


@pytest.mark.parametrize("folder", PROGRAMS)
def test_each_program_folder_holds_exactly_one_package(folder: str) -> None:
    """No loose modules beside the package: they would be importable under names that nobody owns."""
    inside = [path for path in (ROOT / folder).iterdir() if path.name != "__pycache__"]
    packages = [path for path in inside if (path / "__init__.py").is_file()]
    assert len(packages) == 1
    assert [path.name for path in inside if path.suffix == ".py"] == []


def test_no_folder_of_ours_shadows_a_library() -> None:
    """Top-level folders with Python in them are not named like a module of the standard library."""
    holding = {path.split("/")[0] for path in committed() if path.endswith(".py") and "/" in path}
    assert holding & (set(sys.stdlib_module_names) - {"operator"}) == set()


def test_packages_hold_no_folder_named_like_build_output() -> None:
    """`build` and `dist` fall under the usual ignore lines, and an ignored file never reaches the wheel."""
    parts = {part for path in committed() if path.startswith(PROGRAMS) for part in path.split("/")}
    assert parts & {"build", "dist"} == set()


# Put together from halves, so that this file does not match itself.
FORBIDDEN = {
    "host of a package registry": "|".join(
        ["py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(org|com)", "proxy\\.go" + r"lang\.org"]
    ),
    "path of somebody's machine": "|".join(["/wo" + r"rk/", "/ro" + r"ot/", "/ho" + r"me/[a-z]"]),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_names(what: str) -> None:
    """Where packages come from is the user's setting, and no path of a developer's machine means anything elsewhere."""
    pattern = re.compile(FORBIDDEN[what].encode())
    named = [path for path in committed() if not path.startswith("LICENSE") and pattern.search((ROOT / path).read_bytes())]
    assert named == []


def test_wheel_holds_everything_that_the_programs_need(tmp_path: Path) -> None:
    """Templates, style sheets and migrations too, and nothing from outside the packages."""
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {path.partition("/")[2] for path in committed() if path.startswith(tuple(f"{name}/" for name in PROGRAMS))}
