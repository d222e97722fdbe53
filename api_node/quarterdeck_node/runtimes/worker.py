"""The process that a model with a Python environment of its own runs in: `python -m quarterdeck_node.runtimes.worker`.

It reads documents from standard input and writes one answer each to standard output:

    {"load": folder, "digest": …, "allow_code": …, "parent": pid}  → {"ready": true} | {"refused": {code, detail, hint, extra}}
    {"rows": […]}                                                  → {"answers": [[prediction, scores], …]} | {"failed": detail}

A crash, an endless loop or a memory leak of the model ends here; serve goes on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from quarterdeck import lifeline, verify
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.forms import Model, load
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck_node.runtimes import frames


def main() -> None:
    """Load one package, answer batches until the stream ends."""
    # Model code may print: only this program speaks on the pipe, everything else goes to the log.
    with os.fdopen(os.dup(1), "wb") as answers, os.fdopen(os.dup(0), "rb") as questions:
        os.dup2(2, 1)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        _serve(questions, answers)


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    model: Model | None = None
    while (question := frames.read(questions)) is not None:
        if "load" in question:
            lifeline.die_with_parent(question["parent"])
            model, answer = _load(question)
        else:
            answer = _predict(model, question["rows"])
        answers.write(frames.pack(answer))
        answers.flush()


def _load(question: dict[str, Any]) -> tuple[Model | None, dict[str, Any]]:
    folder = Path(question["load"])
    try:
        manifest = Manifest.parse((folder / MANIFEST).read_bytes(), expected=question["digest"])
        verify.check_files(manifest, folder)
        # Here and not in serve: this is the interpreter that the package must fit.
        verify.check_environment(manifest)
        return load(manifest, folder, allow_code=question["allow_code"]), {"ready": True}
    except PackageRefused as error:
        said = {"code": error.code, "detail": error.detail, "hint": error.hint, "extra": error.extra}
    # Unpickling can raise anything at all.
    except Exception as error:
        said = {"code": "load-failed", "detail": f"Loading raised {type(error).__name__}.", "hint": "", "extra": {}}
    return None, {"refused": said}


def _predict(model: Model | None, rows: list[Any]) -> dict[str, Any]:
    if model is None:
        return {"failed": "No model is loaded."}
    try:
        return {"answers": model.predict(rows)}
    except ModelFailed as error:
        return {"failed": error.detail}
    except Exception as error:
        return {"failed": f"The model raised {type(error).__name__}."}


if __name__ == "__main__":
    main()
