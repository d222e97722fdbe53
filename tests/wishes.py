"""Versions and revisions for tests of pure functions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from quarterdeck.plan import VersionRef
from quarterdeck_deployer.revisions import RevisionView


def ref(version: int, model: str = "flights", **more: Any) -> VersionRef:
    """A version."""
    return VersionRef(model=model, version=version, digest=f"sha256:{version:064x}", **more)


def wish(number: int = 3, **more: Any) -> RevisionView:
    """The newest revision of a deployment in production."""
    given = {
        "deployment": "late",
        "number": number,
        "kind": "change",
        "chosen": number,
        "leaving": None,
        "restored": None,
        "who": "ann",
        "why": "because",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "description": "",
        "project": "default",
        "stage": "prod",
        "main": ref(1),
        "challenger": None,
        "access": "instance",
        "records": "spooled",
        "running": True,
    }
    return RevisionView(**{**given, **more})
