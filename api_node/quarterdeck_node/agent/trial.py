"""The trial load: a package is loaded and asked its golden rows in a process of its own before serve may touch it.

A package that takes all memory, loops for ever or crashes its interpreter ends that process and nothing else. The process reads
one question from standard input and writes one answer to standard output, both JSON:

    {"folder", "digest", "allow_code", "memory_bytes", "parent"}  →  {"memory_bytes", "load_seconds"} | {"refused": {…}}
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from quarterdeck import forms, lifeline, verify
from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.model_environ import model_environ

PLACE = "trial load"
_OUT_OF_MEMORY = 75


class Tried(NamedTuple):
    """What a trial load measured: growth of resident memory in bytes, and seconds until the model was loaded."""

    memory_bytes: int
    load_seconds: float


def try_load(manifest: Manifest, folder: Path, *, allow_code: bool, seconds: float, memory_bytes: int) -> Tried:
    """Load a verified package in a child process and compare its golden rows there.

    Args:
        manifest: of the package.
        folder: where its files lie.
        allow_code: whether the deployment allows packages that run code when loaded.
        seconds: deadline of everything.
        memory_bytes: address space that the child may use.

    Raises:
        PackageRefused: what the child said, or ``load-failed`` where it died, hung or ran out of memory.
    """
    question = {
        "folder": str(folder.resolve()), "digest": manifest.digest, "allow_code": allow_code,
        "memory_bytes": memory_bytes, "parent": os.getpid(),
    }  # fmt: skip
    # As where it serves: code of a package never imports from the folder that somebody happened to start us in.
    safely = ["-P"] if manifest.form == "python" else []
    child = subprocess.Popen(
        [sys.executable, *safely, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        env=model_environ(manifest.environment.variables),
    )  # fmt: skip
    try:
        raw, _ = child.communicate(json.dumps(question).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        raise _failed(manifest, f"took longer than {seconds:g} s") from None
    finally:
        _end(child)
    if child.returncode == _OUT_OF_MEMORY:
        raise _failed(manifest, f"needed more than {memory_bytes >> 20} MiB of memory")
    if child.returncode < 0:
        raise _failed(manifest, f"was ended by {lifeline.ending(child.returncode)}")
    try:
        answer = json.loads(raw)
        if "refused" not in answer:
            return Tried(int(answer["memory_bytes"]), float(answer["load_seconds"]))
        raise PackageRefused(kind="package", name=manifest.model, **answer["refused"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _failed(manifest, f"ended with status {child.returncode} and said nothing") from None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it and all that it started, and wait: a trial that was given up must not go on eating what it was to be kept from."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
    # Not read to their end: whoever left the group may hold the other one open for ever.
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def main() -> None:
    """The child: one question, one answer."""
    # Model code may print: only this program speaks on the pipe, everything else goes to the log.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        question = json.loads(sys.stdin.buffer.read())
        lifeline.die_with_parent(question["parent"])
        # Nothing is written beside verified files, and nothing that lies there by chance is run in their place.
        sys.dont_write_bytecode = True
        # Address space and not resident memory, since the kernel limits nothing else for one process; hence the generous default.
        resource.setrlimit(resource.RLIMIT_AS, (question["memory_bytes"], question["memory_bytes"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            answer = _answer(question)
        except MemoryError:
            os._exit(_OUT_OF_MEMORY)
        answers.write(json.dumps(answer).encode())
        answers.flush()
    # Whatever threads or exit handlers the package left behind have no say any more.
    os._exit(0)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        folder = Path(question["folder"])
        manifest = Manifest.parse((folder / MANIFEST).read_bytes(), question["digest"])
        before, started = _resident(), time.monotonic()
        model = forms.load(manifest, folder, allow_code=question["allow_code"])
        seconds = time.monotonic() - started
        verify.check_golden(manifest, model)
        return {"memory_bytes": max(0, _resident() - before), "load_seconds": seconds}
    except PackageRefused as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        return {"refused": {"detail": error.detail, "code": error.code, "hint": error.hint, "extra": error.extra}}
    except MemoryError:
        raise
    except Exception as error:
        detail = f"Loading raised {type(error).__name__}."
        return {"refused": {"detail": detail, "code": "load-failed", "extra": {"place": PLACE}}}


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _failed(manifest: Manifest, what: str) -> PackageRefused:
    return PackageRefused(
        f"Loading {manifest.model} in a trial process {what}.", code="load-failed", kind="package", name=manifest.model,
        hint="Try it with `quarterdeck package test`; raise QUARTERDECK_TRIAL_BYTES or QUARTERDECK_TRIAL_SECONDS if it is sound.",
        extra={"place": PLACE},
    )  # fmt: skip


if __name__ == "__main__":
    main()
