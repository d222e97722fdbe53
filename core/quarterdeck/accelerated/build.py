"""A compiled package with a graph for GPUs beside its program, proven against the program's own answers."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from quarterdeck import package_files
from quarterdeck.accelerated.graph import graph
from quarterdeck.accelerated.model import GRAPH_FILE, load
from quarterdeck.compiled.model import load as load_compiled
from quarterdeck.compiled.program import PROGRAM_FILE, Program
from quarterdeck.compiling.draft import NotCompilable
from quarterdeck.errors import InvalidInput, PackageRefused
from quarterdeck.evaluate import compare
from quarterdeck.manifest import FileEntry, Manifest
from quarterdeck.schema import Row

TOLERANCE = 1e-5
"""What a GPU may differ by: it adds up in another order, and its exponential is another."""


def accelerate(manifest: Manifest, files: Mapping[str, bytes], rows: Sequence[Row]) -> tuple[Manifest, dict[str, bytes]]:
    """The package with its graph.

    Args:
        manifest: of a compiled package.
        files: of the package, by path.
        rows: to prove the graph on, by ONNX Runtime on the processor.

    Raises:
        InvalidInput: the model is not compiled, or its scoring has no such form; says why.
        PackageRefused: ``golden-mismatch`` where the graph answers differently.
    """
    if manifest.form != "compiled":
        raise _unfit(manifest, manifest.fallback or f"it is stored as {manifest.form}")
    try:
        made = graph(Program.model_validate_json(files[PROGRAM_FILE]), files)
    except NotCompilable as error:
        raise _unfit(manifest, str(error)) from None
    entry = FileEntry(path=GRAPH_FILE, size=len(made), sha256=hashlib.sha256(made).hexdigest())
    whole = {**files, GRAPH_FILE: made}
    entries = sorted([*manifest.files, entry], key=lambda one: one.path)
    draft = manifest.model_copy(update={"files": entries, "accelerated": manifest.proof})
    with tempfile.TemporaryDirectory() as folder:
        written = package_files.write(draft, whole, Path(folder) / "package")
        # On the processor: who builds rarely has a GPU. A node that has one asks it for the golden rows before it serves.
        plain, fast = load_compiled(draft, written), load(draft, written, "none")
        proof = compare(plain.predict(rows), fast.predict(rows), TOLERANCE)
    if proof.labels_different or proof.largest_difference > TOLERANCE:
        raise PackageRefused(
            f"Scored by its graph, {manifest.model} answers differently: {proof.labels_different} labels of {proof.rows}, scores "
            f"by up to {proof.largest_difference:.3g}.",
            code="golden-mismatch",
            kind="package",
            name=manifest.model,
            hint="Build it without --accelerated.",
        )
    return draft.model_copy(update={"accelerated": proof}), whole


def _unfit(manifest: Manifest, why: str) -> InvalidInput:
    hint = "Build it without --accelerated: it is then scored by the processor."
    return InvalidInput(f"There is no graph for GPUs: {why}.", kind="model", name=manifest.model, hint=hint)
