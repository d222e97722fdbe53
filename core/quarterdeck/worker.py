"""The process that a model runs in: `python -m quarterdeck.worker FD`, FD being one end of a socket pair.

It reads questions and writes one answer to each; `quarterdeck.worker_wire` says how they look. A crash, an endless loop or a
memory leak of the model ends here; whoever asked goes on.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from quarterdeck import forms, lifeline, verify, worker_wire
from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.model import Model
from quarterdeck.schema import Schema
from quarterdeck.scored import scored_by


class _Loaded:
    """The model of this process."""

    def __init__(self, model: Model, schema: Schema) -> None:
        self._model, self._schema, self._names = model, schema, schema.names

    def answer(self, count: int, columns: list[list[Any]]) -> bytes:
        """The answer's message to one batch."""
        try:
            rows = ColumnRows(dict(zip(self._names, map(list, columns), strict=True)), count)
            return worker_wire.batch(scored_by(self._model, self._schema, rows))
        except ModelFailed as error:
            if _is_memory(error):
                _out_of_memory()
            said = {member: getattr(error, member) for member in ("detail", "hint", "kind", "name", "code")}
            return worker_wire.said(b"F", said)
        # What the model raised, exits of its own included: its type is told, its words may quote values.
        except BaseException as error:
            if _is_memory(error):
                _out_of_memory()
            return worker_wire.said(b"F", {"detail": f"The model raised {type(error).__name__}."})


def main() -> None:
    """Load one package, answer batches until the other side is gone."""
    number = int(sys.argv[1])
    # Programs that the model starts must not hold our end: its death would go unnoticed.
    os.set_inheritable(number, False)
    # Model code may print: that goes to the log, and nothing is to be read.
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    # Nothing is written beside verified files, and nothing that lies there by chance is run in their place.
    sys.dont_write_bytecode = True
    with socket.socket(fileno=number) as link:
        _serve(link)
    # Whatever threads or exit handlers the package left behind have no say any more.
    os._exit(0)


def _serve(link: socket.socket) -> None:
    loaded: _Loaded | None = None
    while (data := _read(link)) is not None:
        question = worker_wire.question(data)
        if isinstance(question, dict):
            loaded, reply = _load(question)
            # What was loaded stays: collections need not walk through all of it again and again.
            gc.collect()
            gc.freeze()
        else:
            assert loaded is not None, "rows are sent after a package was loaded"
            reply = loaded.answer(*question)
        link.sendall(reply)


def _read(link: socket.socket) -> bytearray | None:
    """The next message without its length; None at the end."""
    head = _exactly(link, worker_wire.HEAD.size)
    return None if head is None else _exactly(link, worker_wire.HEAD.unpack(head)[0])


def _exactly(link: socket.socket, count: int) -> bytearray | None:
    data, have = bytearray(count), 0
    # Into its place: large batches come in hundreds of pieces, and joining those one by one would copy all of it each time.
    while have < count:
        more = link.recv_into(memoryview(data)[have:])
        if not more:
            return None
        have += more
    return data


def _load(question: dict[str, Any]) -> tuple[_Loaded | None, bytes]:
    lifeline.die_with_parent(question["parent"])
    if question["memory_bytes"]:
        # Address space and not resident memory, since the kernel limits nothing else for one process.
        resource.setrlimit(resource.RLIMIT_AS, (question["memory_bytes"], question["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = Path(question["folder"])
    try:
        manifest = Manifest.parse((folder / MANIFEST).read_bytes(), expected=question["digest"])
        verify.check_files(manifest, folder)
        # Here and not in the asking program: this is the interpreter that the package must fit.
        verify.check_environment(manifest)
        model = forms.load(manifest, folder, allow_code=question["allow_code"], accelerator=question["accelerator"])
        return _Loaded(model, manifest.data_schema), worker_wire.answer(b"R")
    except PackageRefused as error:
        if _is_memory(error):
            _out_of_memory()
        said = {"code": error.code, "detail": error.detail, "hint": error.hint, "extra": error.extra}
    # Loading code can raise anything at all.
    except BaseException as error:
        if _is_memory(error):
            _out_of_memory()
        said = {"code": "load-failed", "detail": f"Loading raised {type(error).__name__}.", "hint": "", "extra": {}}
    return None, worker_wire.said(b"X", said)


def _is_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, here or in what is behind the error; C++ says so in its own words."""
    while error is not None:
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _out_of_memory() -> NoReturn:
    # Nothing can be relied on in a process without memory, and what leaked is given back only by its end.
    os._exit(worker_wire.OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
