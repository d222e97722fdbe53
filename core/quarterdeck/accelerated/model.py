"""A compiled model whose scoring runs in ONNX Runtime, on the provider that the deployment asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quarterdeck.accelerated.scoring import entries
from quarterdeck.compiled.batch import Batch
from quarterdeck.compiled.model import CompiledModel
from quarterdeck.compiled.model import load as load_compiled
from quarterdeck.compiled.program import PROGRAM_FILE, Program
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.manifest import Manifest
from quarterdeck.model import class_answers, regression_answers
from quarterdeck.plan import Accelerator
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck.verify import read_verified

GRAPH_FILE = "scores.onnx"
_PROVIDERS: dict[Accelerator, str] = {"none": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class AcceleratedModel:
    """Rows in, answers out: encoded here, scored by ONNX Runtime. Safe to call from several threads.

    Args:
        compiled: encodes the features.
        program: its steps.
        session: of the graph.
    """

    def __init__(self, compiled: CompiledModel, program: Program, session: Any) -> None:
        self.schema = compiled.schema
        self._batch: Batch = compiled.batch
        self._session = session
        self._entries = [(place, f"block_{place}") for place in entries(program)]

    def many(self, rows: Sequence[Row]) -> Any:
        """The scores of some rows: float64, shape (rows, classes), (rows, 1) for a regression.

        Raises:
            ModelFailed: a row that the model refuses, or a runtime that failed.
        """
        blocks = {name: self._batch.inputs(rows, place).astype(np.float64) for place, name in self._entries}
        try:
            (found,) = self._session.run(["scores"], blocks)
        except Exception as error:
            # Of whatever kind: out of memory on the device, a driver that went away.
            raise ModelFailed(f"ONNX Runtime raised {type(error).__name__}.", hint="Look at the node's GPU.") from error
        return found

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row, in order; raises `ModelFailed`."""
        if not rows:
            return []
        found = self.many(rows).tolist()
        return class_answers(self.schema, found) if self.schema.classes else regression_answers(value for (value,) in found)


def load(manifest: Manifest, folder: Path, accelerator: Accelerator) -> AcceleratedModel:
    """The model of a package that was built for accelerators.

    Args:
        manifest: of the package.
        folder: where its files lie.
        accelerator: ``none`` runs the same graph on the processor.

    Raises:
        PackageRefused: ``accelerator-unsupported`` where the package has no graph, ``accelerator-missing`` where this machine has
            no such device or runtime, and whatever loading the compiled form raises.
    """
    if manifest.accelerated is None:
        raise PackageRefused(
            f"{manifest.model} was not built for {accelerator}.",
            code="accelerator-unsupported",
            kind="package",
            name=manifest.model,
            hint="Build it with --accelerated, or leave `accelerator` out of the deployment.",
            extra={"place": GRAPH_FILE},
        )
    compiled = load_compiled(manifest, folder)
    program = Program.model_validate_json(read_verified(manifest, folder, PROGRAM_FILE))
    return AcceleratedModel(compiled, program, _session(read_verified(manifest, folder, GRAPH_FILE), accelerator))


def _session(graph: bytes, accelerator: Accelerator) -> Any:
    wanted = _PROVIDERS[accelerator]
    try:
        import onnxruntime
    except ImportError:
        raise _missing(accelerator, "ONNX Runtime is not installed here") from None
    if wanted not in onnxruntime.get_available_providers():
        raise _missing(accelerator, f"the ONNX Runtime that is installed here has no {wanted}")
    options = onnxruntime.SessionOptions()
    # One thread, as everywhere on a node; errors only, since each fall-back of an operation would be a line.
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(graph, options, providers=[wanted])
    # Without a device the runtime falls back to the processor and says nothing.
    if session.get_providers()[0] != wanted:
        raise _missing(accelerator, "no usable NVIDIA GPU is here")
    return session


def _missing(accelerator: Accelerator, what: str) -> PackageRefused:
    hint = (
        "Run this node where there is an NVIDIA GPU with onnxruntime-gpu installed, or leave `accelerator` out of the deployment."
    )
    return PackageRefused(
        f"The deployment asks for {accelerator}, and {what}.",
        code="accelerator-missing",
        kind="accelerator",
        name=accelerator,
        hint=hint,
        extra={"place": accelerator},
    )
