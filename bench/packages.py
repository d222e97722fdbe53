"""Our packages of the work's models, in a store of their own; built anew when the library or the models change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

import quarterdeck
from bench import work
from bench.places import CACHE, WORK
from bench.slow import MILLISECONDS, Slow, Waiting
from quarterdeck.build import BuiltPackage
from quarterdeck.plan import VersionRef
from quarterdeck.storage import open_storage

Kind = Literal["pipe", "pipe-skops", "booster", "slow", "waiting"]
"""`pipe` and `booster` in the best form that there is; `pipe-skops` is the same pipeline kept from being compiled.

`slow` computes and `waiting` waits, for 5 ms per row."""


class Published(NamedTuple):
    """A package in a store."""

    store: str
    version: VersionRef
    form: str
    fallback: str


def published(kind: Kind) -> Published:
    """The package of a model, built where that has not been done for these sources."""
    work.make()
    folder = CACHE / "packages" / _fingerprint()
    note, store = folder / f"{kind}.json", folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    if not note.is_file():
        built = _BUILDERS[kind]()
        version = built.push(open_storage(str(store)))
        said = {"form": built.manifest.form, "fallback": str(getattr(built.manifest, "fallback", ""))}
        note.write_text(json.dumps({"version": version.model_dump(mode="json"), **said}))
    found = json.loads(note.read_text())
    version = VersionRef.model_validate({**found["version"], "trust": "code" if kind in ("slow", "waiting") else "data"})
    return Published(str(store), version, found["form"], found["fallback"])


def _slow(model: Slow) -> BuiltPackage:
    X = pd.DataFrame({"number": np.arange(40.0)})
    y = pd.Series(np.arange(40.0), name="same")
    name = type(model).__name__.lower()
    words = f"Takes {MILLISECONDS} ms per row."
    return quarterdeck.package(model.fit(X, y), X, y, name=name, description=words, form="joblib", trust="code")


_BUILDERS: dict[Kind, Callable[[], BuiltPackage]] = {
    "pipe": lambda: quarterdeck.package(*work.pipe(), name="pipe"),
    "pipe-skops": lambda: quarterdeck.package(*work.pipe(), name="pipe-skops", form="skops"),
    "booster": lambda: quarterdeck.package(*work.booster(), name="booster", classes=[0, 1]),
    "slow": lambda: _slow(Slow()),
    "waiting": lambda: _slow(Waiting()),
}


def _fingerprint() -> str:
    """Of the library's sources and the models."""
    spec = find_spec("quarterdeck")
    assert spec is not None
    assert spec.origin is not None
    sources = [path.read_bytes() for path in sorted(Path(spec.origin).parent.rglob("*.py"))]
    return hashlib.sha256(b"\n".join([*sources, (WORK / "mark").read_bytes()])).hexdigest()[:16]
