"""The infrastructures of the cluster that the deployer itself runs in, written down at its start."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import InfrastructureRow

FIRST = "cluster"


def write_clusters(writing: sessionmaker[Session], namespaces: Sequence[str], store: str) -> str:
    """Write down an infrastructure for each namespace that has none: `cluster` the first one ever, others by their namespace.

    Args:
        writing: sessions that write.
        namespaces: of the cluster that the deployer runs in.
        store: URL of their packages and records.

    Returns:
        The name of the first namespace's; empty where there are no namespaces.
    """
    named: dict[str, str] = {}
    with writing.begin() as session:
        rows = list(session.scalars(select(InfrastructureRow)))
        # One that has a kubeconfig may be of another cluster, which has namespaces of the same names.
        here = {
            row.settings["namespace"]: row.name for row in rows if row.kind == "kubernetes" and not row.settings.get("kubeconfig")
        }
        taken = {row.name for row in rows}
        for namespace in namespaces:
            name = here.get(namespace, "")
            if not name:
                name = next(one for one in (FIRST, namespace, f"{FIRST}-{namespace}"[:63].rstrip("-")) if one not in taken)
                settings = {"namespace": namespace}
                session.add(InfrastructureRow(name=name, kind="kubernetes", store=store, settings=settings, created=utc_now()))
                taken.add(name)
            named[namespace] = name
    return named[namespaces[0]] if namespaces else ""
