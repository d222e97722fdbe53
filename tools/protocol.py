"""Writes the Python side of the gRPC protocol anew from its .proto file; part of `make generate`. A test compares it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import ROOT

SOURCE = Path("quarterdeck_node/grpc_door/open_inference.proto")
FOLDER = ROOT / "api_node"
MADE = tuple(SOURCE.with_name(SOURCE.stem + ending) for ending in ("_pb2.py", "_pb2.pyi"))


def render() -> dict[Path, str]:
    """The generated files by their path in `FOLDER`, as protoc of this environment writes them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(FOLDER), f"--python_out={folder}", f"--pyi_out={folder}"]
        subprocess.run([*command, str(SOURCE)], check=True, cwd=FOLDER)
        return {path: (Path(folder) / path).read_text(encoding="utf-8") for path in MADE}


def write() -> None:
    """Write them into the checkout."""
    for path, text in render().items():
        (FOLDER / path).write_text(text, encoding="utf-8")
        print(f"api_node/{path}")
