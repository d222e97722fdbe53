"""Who may import whom: the contracts of .importlinter, and what the serving process must be able to live without."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import ROOT

STACK = {"pyarrow", "pandas", "sklearn", "scipy", "lightgbm", "skops", "joblib", "onnx", "onnxruntime"}
HEAVY = STACK | {"boto3", "botocore", "duckdb", "sqlalchemy", "grpc"}


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


@pytest.mark.parametrize(
    "module", ["quarterdeck", "quarterdeck_node.serve", "quarterdeck.compiled.model", "quarterdeck.accelerated.model"]
)
def test_starts_without_heavy_libraries(module: str) -> None:
    """What answers requests has no S3 client, no data frames, no training library and no port's library in memory; building a
    package loads what it needs then."""
    assert loaded_by(module) & HEAVY == set()
