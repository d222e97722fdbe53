"""Who may import whom: the contracts of .importlinter, and what the serving process must be able to live without."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support import ROOT

HEAVY = ("boto3", "botocore", "pyarrow", "pandas", "sklearn", "lightgbm", "skops", "joblib", "duckdb", "sqlalchemy")


def test_import_contracts_hold() -> None:
    """import-linter keeps every contract."""
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded_by(module: str) -> set[str]:
    """Top-level names in sys.modules after a fresh interpreter imported `module`."""
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_serve_starts_without_heavy_libraries() -> None:
    """The process that answers requests has no S3 client, no data frames and no training library in memory."""
    assert loaded_by("quarterdeck_node.app") & set(HEAVY) == set()


def test_library_starts_without_heavy_libraries() -> None:
    """`import quarterdeck` costs nobody a data science stack; building a package loads it then."""
    assert loaded_by("quarterdeck") & set(HEAVY) == set()
